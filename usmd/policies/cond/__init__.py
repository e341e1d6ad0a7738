"""Conditional policies: what is done when nobody asks."""
