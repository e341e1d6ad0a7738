"""Mechanisms: how pages become bytes that an application sees."""
