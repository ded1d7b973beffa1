"""Datasets written in the formats of other programs, one file per format; what a format cannot hold is said."""

from smidgen.data.writing.formats import FORMATS, Written, write_dataset
from smidgen.data.writing.shortfalls import Shortfall

__all__ = ["FORMATS", "Shortfall", "Written", "write_dataset"]
