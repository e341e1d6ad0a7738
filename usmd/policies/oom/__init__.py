"""Out-of-memory policies: what happens if a fault finds no memory."""
