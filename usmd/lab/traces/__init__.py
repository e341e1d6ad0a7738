"""Traces of memory and cache accesses: reading those of other tools, and recording and reading our own."""
