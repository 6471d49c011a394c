"""Kernels that score, hash and spread: arrays in, arrays out; no configuration, no I/O but a cache of compiled code."""
