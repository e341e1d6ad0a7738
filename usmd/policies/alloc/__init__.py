"""Allocation policies: how many pages, which frames, now or later."""
