"""Kernels that score, hash and spread: numpy and torch in, numpy and torch out; no I/O, no configuration."""
