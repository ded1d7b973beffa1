"""What is wrong with a dataset, found before hours are spent on it, and a copy in which it is mended."""

from smidgen.data.checks.clean_copy import CleanCopy, write_clean_copy
from smidgen.data.checks.findings import FINDING_KINDS, Finding
from smidgen.data.checks.inspection import Inspection, default_workers, inspect_dataset

__all__ = [
    "FINDING_KINDS",
    "CleanCopy",
    "Finding",
    "Inspection",
    "default_workers",
    "inspect_dataset",
    "write_clean_copy",
]
