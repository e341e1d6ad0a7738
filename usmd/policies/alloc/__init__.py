"""Allocation policies: how many pages a fault brings in, on which frames, and whether the fault waits."""
