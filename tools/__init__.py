"""Command-line helpers of the repository."""
