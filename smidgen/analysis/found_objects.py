"""Which objects of one image its detections find: COCO's matching, class by class, best score first."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.boxes import pairwise_iou
from smidgen.evaluation.greedy_matching import assign_greedily
from smidgen.evaluation.overlap_pairs import OverlapPairs


def found_objects(
    boxes_xyxy: Float[Tensor, "M 4"],
    labels: Int[Tensor, " M"],
    detected_xyxy: Float[Tensor, "D 4"],
    detected_labels: Int[Tensor, " D"],
    iou: float,
) -> Bool[Tensor, " M"]:
    """Objects that a detection of their class matches at this IoU. Detections are given best first; of equally good
    objects a detection takes the last, as in pycocotools.
    """
    overlaps = pairwise_iou(detected_xyxy.double(), boxes_xyxy.double())
    possible = (overlaps >= iou) & (detected_labels[:, None] == labels)
    detection, truth = (index.cpu().numpy() for index in possible.nonzero(as_tuple=True))
    overlap = overlaps[possible].cpu().numpy()
    favorite_first = np.lexsort((-truth, -overlap, detection))
    pairs = OverlapPairs(detection, truth, overlap)[favorite_first]
    given = assign_greedily(pairs, np.arange(len(detected_labels)), np.zeros(len(labels), dtype=bool))
    found = torch.zeros(len(labels), dtype=torch.bool)
    found[torch.from_numpy(given[given >= 0])] = True
    return found.to(labels.device)
