"""Tiled prediction beside sahi's with the same detector and tiles, and generated scenes far larger than memory.

    python benchmarks/tiled_inference.py [--rounds 3] [--quick] [--run RUN] [--run-side 2000] [--side 4000]
        [--large 20000x20000,60000x4000]

Scenes are mosaics of `smidgen synth` in tiled TIFF, whose objects are known. The *stand-in* finds what is painted in
one color, a little beside where it is (0.7 px): time is that of reading and merging, and seams are tried; `--run`
adds a trained detector, beside sahi on its own scene, where nearly all time is the network's; "bf16" is
`smidgen.optimize(model, "bf16")`. Tiles of 1024 px that overlap by 20 %, one thread, one tile at a time. sahi decodes
the file whole and merges with its default (GREEDYNMM), or NMS. The pass over the whole image, which sahi makes unless
told, is measured for the trained detector only, against ours. On the large scenes memory is what the process grew by,
and recall is said at seams (centers within 8 px of a core's border) and elsewhere, with 95 % intervals (Wilson, 1927):
of boxes of IoU 0.5, and of boxes that reach it with 2 px around both, which the stand-in's noise does not take from
objects of 4 px. Only the latter tells what merging lost.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from measuring import Recording, parser, peak_mib, recording
from scipy import ndimage
from torch import nn

from smidgen import Tiling, load, optimize, predict
from smidgen.boxes import TilePlan, pairwise_iou
from smidgen.data.synthetic import SceneConfig
from smidgen.data.synthetic.scene import render_scene
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

TILE, OVERLAP = 1024, 0.2
PAINT = (255, 0, 255)
NEAR_SEAM_PX, NOISE_MARGIN_PX = 8, 2.0
SCENE_SIDE, NUM_SCENES = 512, 8
Variants = dict[str, Callable[[], torch.Tensor]]


@dataclass(frozen=True)
class Scene:
    """A generated image on disk and the boxes of its objects."""

    file: Path
    size_hw: tuple[int, int]
    boxes_xyxy: torch.Tensor


class PaintFinder(nn.Module):
    """Boxes around connected pixels of one color, moved by noise."""

    def __init__(self, noise_px: float = 0.7) -> None:
        super().__init__()
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=TILE, long_side=TILE))
        self.classes = Classes(("object",), (1,))
        self.noise_px = noise_px
        self.generator = torch.Generator().manual_seed(0)

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        return [self._one(pixels, size_hw) for pixels, size_hw in zip(images.pixels, original_hw, strict=True)]

    def _one(self, pixels: torch.Tensor, size_hw: tuple[int, int]) -> Detections:
        painted = (pixels[0] == PAINT[0]) & (pixels[1] == PAINT[1]) & (pixels[2] == PAINT[2])
        patches, _ = ndimage.label(painted.numpy())
        found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(patches)]
        boxes = torch.tensor(found, dtype=torch.float32).reshape(-1, 4)
        boxes = (boxes + torch.randn(boxes.shape, generator=self.generator) * self.noise_px).clamp(min=0, max=TILE)
        count = len(boxes)
        labels = torch.zeros(count, dtype=torch.int64)
        names, ids = self.classes.names, self.classes.ids
        return Detections(boxes, torch.full((count,), 0.9), labels, size_hw, class_names=names, category_ids=ids)


def main() -> None:
    sides = {"side": (4000, 1500), "run_side": (2000, 1500), "large": ("20000x20000,60000x4000", "4000x3000")}
    options = parser(__doc__, rounds=3, **sides)
    options.add_argument("--run", type=Path, help="run folder of a trained detector")
    settings = options.parse_args()
    with recording(__file__, settings) as record, tempfile.TemporaryDirectory() as folder:
        scenes = partial(mosaic, Path(folder))
        beside_sahi(record, PaintFinder(), scenes((settings.side, settings.side), painted=True))
        if settings.run:
            trained_beside_sahi(record, load(settings.run), scenes((settings.run_side, settings.run_side)))
        for size in settings.large.split(","):
            width, height = (int(side) for side in size.split("x"))
            large_scene(record, scenes((height, width), painted=True))


def beside_sahi(record: Recording, detector: PaintFinder, scene: Scene) -> None:
    """Time of one image with the stand-in, from its file to merged detections."""
    variants: Variants = {"smidgen": partial(predicted, detector, scene.file)}
    if record.peer("sahi"):
        from smidgen.inference.sahi_adapter import sahi_detection_model

        model = sahi_detection_model(detector, score=0.3)
        variants |= {f"sahi {kind}": partial(sliced, model, scene.file, kind) for kind in ("GREEDYNMM", "NMS")}
    for variant, boxes in measured(record, "stand-in", scene, variants).items():
        record.count(f"stand-in, {variant}", **recall(scene, boxes))


def trained_beside_sahi(record: Recording, detector: Any, scene: Scene) -> None:
    """Time of one image with a trained detector, with and without a look at the whole image."""
    fewer_bits = optimize(detector.eval(), "bf16")
    for name, whole in (("tiles", False), ("tiles and the whole image", True)):
        variants: Variants = {"smidgen": partial(predicted, detector, scene.file, whole)}
        variants["smidgen, bf16"] = partial(predicted, fewer_bits, scene.file, whole)
        if record.peer("sahi"):
            from smidgen.inference.sahi_adapter import sahi_detection_model

            model = sahi_detection_model(detector, score=0.3)
            variants["sahi GREEDYNMM"] = partial(sliced, model, scene.file, "GREEDYNMM", whole)
        answers = measured(record, f"{record.options.run.name}, {name}", scene, variants)
        record.count(f"boxes, {name}", **{variant: len(boxes) for variant, boxes in answers.items()})


def measured(record: Recording, name: str, scene: Scene, variants: Variants) -> Mapping[str, torch.Tensor]:
    """The boxes of each variant, timed against sahi's default where it is installed."""
    height, width = scene.size_hw
    against = "sahi GREEDYNMM" if "sahi GREEDYNMM" in variants else "smidgen"
    found = record.measure(f"{name}, {width} x {height} px", variants, against=against)
    record.save()  # the large scenes take long
    return found.answers


def large_scene(record: Recording, scene: Scene) -> None:
    """Memory, seconds and seams of a scene that is never in memory."""
    detector, answers, spent = PaintFinder(), [], []

    def run() -> None:
        from time import process_time

        before = process_time()
        answers.append(predicted(detector, scene.file))
        spent.append(process_time() - before)

    mib = peak_mib(run)
    height, width = scene.size_hw
    figures = {"peak_mib": mib, "seconds": spent[0], "tiles": len(plan_of(scene)), **recall(scene, answers[0])}
    record.count(f"stand-in, {width} x {height} px", **figures)
    record.save()


def predicted(detector: Any, file: Path, whole: bool = False) -> torch.Tensor:
    tiling = Tiling(tile_px=TILE, overlap=OVERLAP, whole_image=whole)
    (found,) = predict(detector, file, tiling=tiling, on_note=lambda note: None)
    return found.boxes_xyxy


def sliced(model: Any, file: Path, kind: str, whole: bool = False) -> torch.Tensor:
    from PIL import Image
    from sahi.predict import get_sliced_prediction

    Image.MAX_IMAGE_PIXELS = None
    result = get_sliced_prediction(
        str(file),
        model,
        slice_height=TILE,
        slice_width=TILE,
        overlap_height_ratio=OVERLAP,
        overlap_width_ratio=OVERLAP,
        perform_standard_pred=whole,
        postprocess_type=kind,
        verbose=0,
    )
    boxes = [one.bbox.to_xyxy() for one in result.object_prediction_list]
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def plan_of(scene: Scene) -> TilePlan:
    return Tiling(tile_px=TILE, overlap=OVERLAP).plan(scene.size_hw)


def recall(scene: Scene, boxes: torch.Tensor) -> dict[str, Any]:
    """Near seams and elsewhere: objects that a box resembles, those that none does, and boxes beyond one each."""
    plan, truth = plan_of(scene), scene.boxes_xyxy
    centers = ((truth[:, :2] + truth[:, 2:]) / 2).double()
    distance = torch.stack(
        [
            (side.core_borders[1:-1] - centers[:, axis, None]).abs().amin(1)
            for axis, side in enumerate((plan.columns, plan.rows))
            if len(side.starts) > 1
        ]
    ).amin(0)
    seam = distance < NEAR_SEAM_PX
    around = torch.tensor([-NOISE_MARGIN_PX, -NOISE_MARGIN_PX, NOISE_MARGIN_PX, NOISE_MARGIN_PX])
    hits, seen = matches(truth, boxes), matches(truth + around, boxes + around)
    figures: dict[str, Any] = {"objects": len(truth)}
    for where, chosen in (("at_seams", seam), ("elsewhere", ~seam)):
        figures |= {
            f"objects_{where}": int(chosen.sum()),
            f"recall_{where}": share(hits[chosen] > 0),
            f"lost_{where}": int((seen[chosen] == 0).sum()),
            f"doubles_{where}": int((seen[chosen] - 1).clamp(min=0).sum()),
        }
    return figures


def share(found: torch.Tensor) -> str:
    """Of what was found, with Wilson's interval of 95 %."""
    count, rate, z = len(found), found.double().mean().item(), 1.96
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return f"{rate:.4f} ({middle - reach:.4f}-{middle + reach:.4f})"


def matches(truth: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """How many boxes resemble each object, strip by strip of the image."""
    hits = torch.zeros(len(truth), dtype=torch.int64)
    order = boxes[:, 1].argsort()
    boxes = boxes[order]
    for rows in truth[:, 1].argsort().split(200):
        low, high = truth[rows, 1].min() - 100, truth[rows, 3].max() + 100
        near = boxes[
            torch.searchsorted(boxes[:, 1].contiguous(), low) : torch.searchsorted(boxes[:, 1].contiguous(), high)
        ]
        hits[rows] = (pairwise_iou(truth[rows], near) >= 0.5).sum(1)
    return hits


def mosaic(folder: Path, size_hw: tuple[int, int], painted: bool = False) -> Scene:
    """A tiled TIFF of generated scenes, written a row of scenes at a time."""
    import rasterio
    from rasterio.windows import Window

    height, width = size_hw
    file = folder / f"{width}x{height}{'_painted' if painted else ''}.tif"
    made = [prepared(index, painted) for index in range(NUM_SCENES)]
    choice = np.random.default_rng(0)
    boxes = []
    layout = {"driver": "GTiff", "count": 3, "dtype": "uint8", "width": width, "height": height}
    with rasterio.open(file, "w", **layout, tiled=True, blockxsize=512, blockysize=512, BIGTIFF="YES") as raster:
        for top in range(0, height, SCENE_SIDE):
            columns = range(0, width, SCENE_SIDE)
            row = [made[choice.integers(NUM_SCENES)] for _ in columns]
            rows = min(SCENE_SIDE, height - top)
            pixels = np.concatenate([image for image, _ in row], axis=1)[:rows, :width]
            raster.write(pixels.transpose(2, 0, 1), window=Window(0, top, width, rows))
            boxes += [own + np.array([left, top] * 2) for left, (_, own) in zip(columns, row, strict=True)]
    everything = np.concatenate(boxes)
    inside = (everything[:, 2] <= width) & (everything[:, 3] <= height)
    return Scene(file, size_hw, torch.from_numpy(everything[inside]).float())


def prepared(index: int, painted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and boxes of a scene; painted: its objects are rectangles of one color that do not touch."""
    config = SceneConfig(size_wh=(SCENE_SIDE, SCENE_SIDE), side_px=(8.0, 40.0), objects=(30, 60))
    pixels, boxes, _ = render_scene(config, index)
    if not painted:
        return pixels, boxes
    pixels, kept = pixels.copy(), []
    taken = np.zeros(pixels.shape[:2], dtype=bool)
    for left, top, right, bottom in boxes.round().astype(int).clip(2, SCENE_SIDE - 2):
        if min(right - left, bottom - top) < 4 or taken[top - 1 : bottom + 1, left - 1 : right + 1].any():
            continue
        pixels[top:bottom, left:right] = PAINT
        taken[top:bottom, left:right] = True
        kept.append([left, top, right, bottom])
    return pixels, np.array(kept, dtype=np.float64).reshape(-1, 4)


if __name__ == "__main__":
    main()
