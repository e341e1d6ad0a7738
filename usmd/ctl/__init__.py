"""usmctl: what an operator types."""
