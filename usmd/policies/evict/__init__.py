"""Eviction policies: which pages leave memory."""
