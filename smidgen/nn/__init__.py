"""Layers that know nothing of a system."""
