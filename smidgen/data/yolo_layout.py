"""YOLO: one text file of normalized boxes per image in labels/, beside images/, described by a data.yaml (Ultralytics)."""

from __future__ import annotations

from pathlib import Path

from smidgen.data.recognized import Recognized

EXPECTS = "data.yaml with names and train/val/test, or images/ beside labels/ with one .txt per image"


def recognize(path: Path) -> Recognized | None:
    return None
