"""Queries to boxes."""
