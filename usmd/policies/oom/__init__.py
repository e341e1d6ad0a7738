"""Out-of-memory policies: what then."""
