"""Benchmarks of the scoring kernel: cases as data, one runner, a gate that runs first, and peers to compare with."""
