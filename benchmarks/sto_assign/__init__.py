"""Benchmark of assignment under capacity and of spread: how good, how exact, how fast, beside plain ways and optima."""
