"""Archives: any number of images, on this machine or many, begun once and finished whatever is interrupted."""

from smidgen.inference.archives.archive import predict_archive
from smidgen.inference.archives.coco_documents import coco_results, write_coco_results, write_predictions
from smidgen.inference.archives.execution import Execution, Share
from smidgen.inference.archives.report import ArchiveReport, Tally

__all__ = [
    "ArchiveReport",
    "Execution",
    "Share",
    "Tally",
    "coco_results",
    "predict_archive",
    "write_coco_results",
    "write_predictions",
]
