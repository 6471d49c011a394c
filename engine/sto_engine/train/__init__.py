"""Fitting a bundle, as pure functions of buckets; who runs them and when is decided in `train_job`."""
