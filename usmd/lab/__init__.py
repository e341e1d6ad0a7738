"""Tries policies out on recorded accesses, without a running daemon."""
