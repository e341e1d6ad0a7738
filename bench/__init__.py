"""Benchmarks: `make bench` runs them all. Each prints what it measured, against what, and with which settings."""
