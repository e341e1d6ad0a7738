"""Eviction policies: which victims."""
