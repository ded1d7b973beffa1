"""What a trained detector loses when it is optimized: average precision and every detection, on the same images.

    python benchmarks/optimized_accuracy.py RUN... --data DATA [--split val] [--images 80] [--out FILE]

Each run is judged as it was trained, and by `smidgen.optimize` in fp32 and bf16. Detections of at least --score are
paired one to one with those of the optimized model, image by image and class by class. Told are the largest differences
of a pair's scores and box sides (pixels of the original image), and the share of detections that differ: those without
a partner that overlaps by half, or whose partner's score is more than 0.01 or whose box side is more than 1 px away.
Without a run: that of `smidgen demo`, where there is one. --quick: 8 images.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Recording, parser, recording
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import from_numpy, nn
from torchvision.ops import box_iou

from smidgen import load, optimize
from smidgen.data import DetectionDataset, open_dataset
from smidgen.evaluation import Evaluation, evaluate
from smidgen.nn.folded_batch_norm import BATCH_NORMS

DEMO = Path("demo")
FIGURES = ("AP", "AP50", "AP75", "APs")
SAME_SCORE, SAME_SIDE_PX, LEAST_OVERLAP = 0.01, 1.0, 0.5


def main() -> None:
    options = parsed()
    runs, data = options.runs or [run for run in [DEMO / "run"] if run.is_dir()], options.data
    if not runs:
        print(f"no runs: expected RUN... and --data, or what `smidgen demo --out {DEMO}` leaves")
        return
    options.runs, options.data = [run.name for run in runs], data.name  # where they lie is nobody's business
    with recording(__file__, options) as record:
        dataset = spread(open_dataset(data, options.split), options.images)
        for run in runs:
            judge(record, run, dataset)


def parsed() -> argparse.Namespace:
    options = parser(__doc__, rounds=1, images=(80, 8), score=(0.1, 0.1))
    options.add_argument("runs", nargs="*", type=Path, help="run or checkpoint folders")
    options.add_argument("--data", type=Path, default=DEMO / "scenes")
    options.add_argument("--split", default="val")
    return options.parse_args()


def spread(dataset: DetectionDataset, images: int) -> DetectionDataset:
    """So many of its images, evenly."""
    count = min(images, len(dataset))
    return dataset.subset([index * len(dataset) // count for index in range(count)])


def judge(record: Recording, run: Path, dataset: DetectionDataset) -> None:
    model = load(run)
    record.count(run.name, images=len(dataset), batch_norms=batch_norms(model))
    trained = evaluate(model, dataset)
    record.count(f"{run.name} as trained", **figures(trained))
    for dtype in ("fp32", "bf16"):
        fast = optimize(model, dtype)
        found = evaluate(fast, dataset)
        changes = compared(trained.predictions, found.predictions, record.options.score)
        left = batch_norms(fast)
        record.count(f"{run.name} {dtype}", **figures(found), batch_norms=left, **changes.to_json())


def batch_norms(model: nn.Module) -> int:
    return sum(type(part) in BATCH_NORMS for part in model.modules())


def figures(found: Evaluation) -> dict[str, float]:
    return {name: found.metrics[name] for name in FIGURES}


@dataclass(frozen=True)
class Changes:
    """Of `detections`, those of the model as trained: how far their partners are away, and how many differ."""

    detections: int
    unpaired: int
    score_apart: float
    side_apart_px: float
    differing: int

    def to_json(self) -> dict[str, Any]:
        share = self.differing / max(self.detections, 1)
        return {
            "detections": self.detections,
            "unpaired": self.unpaired,
            "largest_score_difference": self.score_apart,
            "largest_side_difference_px": self.side_apart_px,
            "share_that_differs": share,
        }


Detection = Mapping[str, Any]


def compared(before: Sequence[Detection], after: Sequence[Detection], least_score: float) -> Changes:
    """`before` from `least_score` on, against all of `after`: a partner may lie just below the threshold."""
    pairs = list(paired([each for each in before if each["score"] >= least_score], after))
    scores = np.array([abs(one["score"] - other["score"]) for one, other in pairs if other is not None])
    sides = np.array([sides_apart(one, other) for one, other in pairs if other is not None])
    unpaired = len(pairs) - len(scores)
    differing = int(((scores > SAME_SCORE) | (sides > SAME_SIDE_PX)).sum()) + unpaired
    return Changes(len(pairs), unpaired, float(scores.max(initial=0.0)), float(sides.max(initial=0.0)), differing)


def paired(before: Sequence[Detection], after: Sequence[Detection]) -> Iterator[tuple[Detection, Detection | None]]:
    """Every detection of `before` with its own of `after`, None where none overlaps it by half."""
    places = defaultdict(lambda: ([], []))
    for side, detections in enumerate((before, after)):
        for each in detections:
            places[each["image_id"], each["category_id"]][side].append(each)
    for ours, theirs in places.values():
        partners = best_partners(ours, theirs)
        yield from ((one, partners.get(index)) for index, one in enumerate(ours))


def best_partners(ours: Sequence[Detection], theirs: Sequence[Detection]) -> dict[int, Detection]:
    """By the greatest sum of overlaps; of equal boxes, those with nearer scores."""
    if not (ours and theirs):
        return {}
    overlap = box_iou(from_numpy(corners(ours)), from_numpy(corners(theirs))).numpy()
    apart = np.abs(np.subtract.outer(scores_of(ours), scores_of(theirs)))
    rows, columns = linear_sum_assignment(apart * 1e-2 - overlap)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: theirs[column] for row, column in pairs if overlap[row, column] >= LEAST_OVERLAP}


def corners(detections: Sequence[Detection]) -> NDArray[np.float64]:
    boxes = np.array([each["bbox"] for each in detections], dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def scores_of(detections: Sequence[Detection]) -> NDArray[np.float64]:
    return np.array([each["score"] for each in detections], dtype=np.float64)


def sides_apart(one: Detection, other: Detection) -> float:
    """How far the side that moved most has moved."""
    return float(np.abs(corners([one]) - corners([other])).max())


if __name__ == "__main__":
    main()
