"""Swap devices: where the bytes of evicted pages go."""
