"""Coordinates as text: whole where they are whole, else with the four decimals that float32 pixels are good for."""

from __future__ import annotations


def decimal_number(value: float) -> str:
    """80.5699997 is "80.57", 12.0 is "12"."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text
