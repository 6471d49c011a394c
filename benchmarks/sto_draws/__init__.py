"""Benchmark of Beta draws: `sto-engine bench draws`."""
