"""Policies, one a file, found by name through `usmd.policies.registry`."""
