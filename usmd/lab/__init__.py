"""Tools that try policies out on recorded accesses, away from a running daemon."""
