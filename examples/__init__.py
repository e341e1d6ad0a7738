"""Programs that use usmd; each runs as `python -m examples.NAME`."""
