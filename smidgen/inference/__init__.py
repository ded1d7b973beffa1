"""From images on disk to detections, pictures and predictions.json, lazily over any number of files; faster models."""

from smidgen.inference.drawing import draw_detections
from smidgen.inference.geojson_file import geojson_file
from smidgen.inference.georeference import Georeference, read_georeference
from smidgen.inference.guided_tiling import Guide, GuidedTiles
from smidgen.inference.optimization import OptimizedDetector, optimize
from smidgen.inference.pictures import picture_path, write_picture
from smidgen.inference.prediction import predict
from smidgen.inference.predictions_file import PredictionsWriter, prediction_record, predictions_file
from smidgen.inference.sources import common_root, image_files
from smidgen.inference.tiling import Tiling

__all__ = [
    "Georeference",
    "Guide",
    "GuidedTiles",
    "OptimizedDetector",
    "PredictionsWriter",
    "Tiling",
    "common_root",
    "draw_detections",
    "geojson_file",
    "image_files",
    "optimize",
    "picture_path",
    "predict",
    "prediction_record",
    "predictions_file",
    "read_georeference",
    "write_picture",
]
