"""Tiled prediction beside sahi's with the same detector and tiles, and generated scenes far larger than memory.

    python benchmarks/tiled_inference.py [--rounds 3] [--quick] [--side 4000] [--large 20000x20000,60000x4000]
        [--run RUN] [--run-side 2000] [--run-large 20000x20000]

Scenes are mosaics of `smidgen synth` in tiled TIFF, whose objects are known. The *stand-in* finds what is painted in
one color, a little beside where it is: time is that of reading and merging, and seams are tried; `--run` adds a trained
detector, where nearly all time is the network's, as it is and by `smidgen.optimize` in fp32 and bf16. Tiles of 1024 px
that overlap by 20 %, one thread, one tile at a time. sahi decodes the file whole and merges with its default
(GREEDYNMM), or NMS. The pass over the whole image, which sahi makes unless told, is measured for the trained detector
at `--run-side` only, against ours.

Large scenes are gone through once by each, without a round to warm up; memory is what the process grew by. Recall is
said at seams (centers within 8 px of a core's border) and elsewhere, with 95 % intervals (Wilson, 1927). The stand-in's
sides are off by 5 % of the object's: no box falls below an IoU of 0.5 by noise alone, so what is not found was lost by
merging. Our own merging is also tried with sides that are 0.7 px off whatever the size, which makes two views of an
object of 4 px hard to recognize; since that noise alone takes some of them below an IoU of 0.5, "lost" and "doubles"
count boxes with 2 px around them.
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
from measuring import Recording, parser, recording
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
    """Boxes around connected pixels of one color, whose sides are off by noise.

    noise_px, noise_share: standard deviation of each side in pixels, and as a share of the object's width or height.
    """

    def __init__(self, noise_px: float = 0.0, noise_share: float = 0.05) -> None:
        super().__init__()
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=TILE, long_side=TILE))
        self.classes = Classes(("object",), (1,))
        self.noise_px, self.noise_share = noise_px, noise_share
        self.generator = torch.Generator().manual_seed(0)

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        return [self._one(pixels, size_hw) for pixels, size_hw in zip(images.pixels, original_hw, strict=True)]

    def _one(self, pixels: torch.Tensor, size_hw: tuple[int, int]) -> Detections:
        painted = (pixels[0] == PAINT[0]) & (pixels[1] == PAINT[1]) & (pixels[2] == PAINT[2])
        patches, _ = ndimage.label(painted.numpy())
        found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(patches)]
        boxes = self._noisy(torch.tensor(found, dtype=torch.float32).reshape(-1, 4)).clamp(min=0, max=TILE)
        count = len(boxes)
        labels = torch.zeros(count, dtype=torch.int64)
        names, ids = self.classes.names, self.classes.ids
        return Detections(boxes, torch.full((count,), 0.9), labels, size_hw, class_names=names, category_ids=ids)

    def _noisy(self, boxes: torch.Tensor) -> torch.Tensor:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        noise = torch.randn(boxes.shape, generator=self.generator)
        return boxes + noise * (self.noise_px + self.noise_share * sides)


def main() -> None:
    sides = {"side": (4000, 1500), "large": ("20000x20000,60000x4000", "4000x3000")}
    of_run = {"run_side": (2000, 1500), "run_large": ("20000x20000", "1500x1500")}
    options = parser(__doc__, rounds=3, **sides, **of_run)
    options.add_argument("--run", type=Path, help="run folder of a trained detector")
    settings = options.parse_args()
    with recording(__file__, settings) as record, tempfile.TemporaryDirectory() as folder:
        scenes = partial(mosaic, Path(folder))
        beside_sahi(record, PaintFinder(), scenes((settings.side, settings.side), painted=True))
        for size_hw in sizes_hw(settings.large):
            large_scene(record, scenes(size_hw, painted=True))
        if settings.run:
            detector = load(settings.run)
            trained_beside_sahi(record, detector, scenes((settings.run_side, settings.run_side)))
            for size_hw in sizes_hw(settings.run_large):
                trained_on_large(record, detector, scenes(size_hw))


def sizes_hw(text: str) -> list[tuple[int, int]]:
    """Of WIDTHxHEIGHT,WIDTHxHEIGHT; none of an empty text."""
    return [(int(height), int(width)) for width, height in (size.split("x") for size in text.split(",") if size)]


def beside_sahi(record: Recording, detector: PaintFinder, scene: Scene) -> None:
    """Time of one image with the stand-in, from its file to merged detections."""
    variants: Variants = {"smidgen": partial(predicted, detector, scene.file)}
    variants |= by_sahi(record, detector, scene, ("GREEDYNMM", "NMS"))
    found = record.measure(f"stand-in, {width_x_height(scene)}", variants, against=compared_with(variants))
    count_recall(record, "stand-in", scene, found.answers)


def trained_beside_sahi(record: Recording, detector: Any, scene: Scene) -> None:
    """Time of one image with a trained detector, with and without a look at the whole image."""
    fewer_bits = optimize(detector.eval(), "bf16")
    for name, whole in (("tiles", False), ("tiles and the whole image", True)):
        variants: Variants = {"smidgen": partial(predicted, detector, scene.file, whole)}
        variants["smidgen, bf16"] = partial(predicted, fewer_bits, scene.file, whole)
        variants |= by_sahi(record, detector, scene, ("GREEDYNMM",), whole)
        title = f"{record.options.run.name}, {name}, {width_x_height(scene)}"
        answers = record.measure(title, variants, against=compared_with(variants)).answers
        record.count(f"boxes, {name}", **{variant: len(boxes) for variant, boxes in answers.items()})
        record.save()


def large_scene(record: Recording, scene: Scene) -> None:
    """Seconds, memory and seams with the stand-in; beside sahi, and without it where noise does not depend on size."""
    detector = PaintFinder()
    variants: Variants = {"smidgen": partial(predicted, detector, scene.file)}
    variants |= by_sahi(record, detector, scene, ("GREEDYNMM",))
    title = f"stand-in, {width_x_height(scene)}"
    found = record.measure_long(title, variants, against=compared_with(variants))
    record.count(title, tiles=len(plan_of(scene)))
    count_recall(record, title, scene, found.answers)
    same_pixels_off = PaintFinder(noise_px=0.7, noise_share=0.0)
    count_recall(record, f"{title}, sides 0.7 px off", scene, {"smidgen": predicted(same_pixels_off, scene.file)})
    record.save()


def trained_on_large(record: Recording, detector: Any, scene: Scene) -> None:
    """Seconds and memory with a trained detector."""
    detector.eval()
    networks: dict[str, Any] = {"smidgen": detector}
    networks |= {f"smidgen, {bits}": optimize(detector, bits) for bits in ("fp32", "bf16")}
    variants: Variants = {name: partial(predicted, network, scene.file) for name, network in networks.items()}
    variants |= by_sahi(record, detector, scene, ("GREEDYNMM",))
    title = f"{record.options.run.name}, {width_x_height(scene)}"
    found = record.measure_long(title, variants, against=compared_with(variants))
    record.count(f"boxes, {title}", **{variant: len(boxes) for variant, boxes in found.answers.items()})


def by_sahi(record: Recording, detector: Any, scene: Scene, kinds: tuple[str, ...], whole: bool = False) -> Variants:
    """sahi with the same detector, if it is installed."""
    if record.peer("sahi") is None:
        return {}
    from smidgen.inference.sahi_adapter import sahi_detection_model

    model = sahi_detection_model(detector, score=0.3)
    return {f"sahi {kind}": partial(sliced, model, scene.file, kind, whole) for kind in kinds}


def compared_with(variants: Variants) -> str:
    """sahi's default where it is installed."""
    return next((name for name in variants if name == "sahi GREEDYNMM"), "smidgen")


def count_recall(record: Recording, title: str, scene: Scene, answers: Mapping[str, torch.Tensor]) -> None:
    for variant, boxes in answers.items():
        record.count(f"{title}, {variant}", **recall(scene, boxes))


def width_x_height(scene: Scene) -> str:
    height, width = scene.size_hw
    return f"{width} x {height} px"


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
