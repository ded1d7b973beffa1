"""Geometry of axis-aligned boxes, without parameters; always at least float32, whatever autocast does around it."""

from smidgen.boxes.conversions import (
    clip_to_image,
    cxcywh_to_xyxy,
    inverse_sigmoid,
    normalized_to_pixels,
    pixels_to_normalized,
    xyxy_to_cxcywh,
)
from smidgen.boxes.overlap import aligned_giou, aligned_iou, area, pairwise_giou, pairwise_iof, pairwise_iou
from smidgen.boxes.precision import full_precision
from smidgen.boxes.tiles import TilePlan

__all__ = [
    "TilePlan",
    "aligned_giou",
    "aligned_iou",
    "area",
    "clip_to_image",
    "cxcywh_to_xyxy",
    "full_precision",
    "inverse_sigmoid",
    "normalized_to_pixels",
    "pairwise_giou",
    "pairwise_iof",
    "pairwise_iou",
    "pixels_to_normalized",
    "xyxy_to_cxcywh",
]
