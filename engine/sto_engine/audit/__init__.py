"""What is wrong with a store, what it costs, and whether the nightly run may stand on it."""
