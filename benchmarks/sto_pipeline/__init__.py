"""Benchmarks of the data path: ingest, features and the nightly run, beside general engines on the same files."""
