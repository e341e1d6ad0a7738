"""Benchmarks: `make bench` runs them all. Each prints its measurements, the yardstick, and the settings."""
