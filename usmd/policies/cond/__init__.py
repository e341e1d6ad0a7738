"""Conditional policies: what a process does without a fault, in a turn every 0.1 s."""
