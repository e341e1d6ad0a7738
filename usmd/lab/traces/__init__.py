"""Traces of memory and cache accesses: reads those of other tools; records and reads usmd's own."""
