"""Detections of images by the ONNX file beside this one: needs Python, onnxruntime, numpy and Pillow, nothing else.

    python run.py IMAGE... [--score 0.3] [--out predictions.json]

Prints one JSON object, {"images": [{"file", "detections": [...]}]}. A detection is {"bbox": [x, y, w, h], "score",
"category_id", "category"} with its box in pixels of the image on disk. As a module: `Detector(folder)(picture)`, where
the picture is Pillow's, gives a list of detections.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped]
    from PIL import Image, ImageOps
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(f"error: {missing}; pip install onnxruntime numpy pillow", file=sys.stderr)
    sys.exit(2)

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]
Span = tuple[int, float, float]


class Detector:
    """The bundle in `folder`. threads: of onnxruntime, 0 = all."""

    def __init__(self, folder: Path | str, threads: int = 0) -> None:
        folder = Path(folder)
        self.bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        if (self.bundle["format"], self.bundle["version"]) != ("smidgen bundle", 1):
            raise ValueError("expected a smidgen bundle of version 1, got another one; use the run.py beside it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(folder / self.bundle["file"]), options, providers=onnxruntime.get_available_providers()
        )

    def __call__(self, picture: Image.Image, score: float | None = None) -> list[dict[str, Any]]:
        """Detections of one image, best first. score: the lowest one, None = the bundle's."""
        score = self.bundle["score"] if score is None else score
        picture = upright_rgb(picture)
        boxes, scores, labels = self.tiled(picture) if self.bundle["tiling"] else self.whole(picture)
        chosen = [index for index in np.argsort(-scores, kind="stable") if scores[index] >= score]
        return [self.record(boxes[index], scores[index], labels[index]) for index in chosen]

    def whole(self, picture: Image.Image) -> Answer:
        """Boxes (xyxy pixels), scores and labels of one image seen whole."""
        pixels, size_hw = self.network_input(picture)
        answer = self.session.run(None, {"pixels": pixels, "sizes_hw": np.array([size_hw], dtype=np.int64)})
        boxes, scores, labels, valid = (values[0] for values in answer)
        return boxes[valid] * np.tile([picture.width, picture.height], 2), scores[valid], labels[valid]

    def tiled(self, picture: Image.Image) -> Answer:
        """The same of a large image, tile by tile; an object belongs to the tile whose core holds its center."""
        side, overlap = self.bundle["tiling"]["tile_px"], self.bundle["tiling"]["overlap"]
        rows, columns = (cores(extent, side, overlap) for extent in (picture.height, picture.width))
        parts = [self.tile(picture, row, column, side) for row in rows for column in columns]
        boxes, scores, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
        return boxes, scores, labels

    def tile(self, picture: Image.Image, row: Span, column: Span, side: int) -> Answer:
        """One tile's own detections, in pixels of the whole image."""
        (top, *core_y), (left, *core_x) = row, column
        window = picture.crop((left, top, min(left + side, picture.width), min(top + side, picture.height)))
        boxes, scores, labels = self.whole(window)
        boxes = boxes + np.tile([left, top], 2)
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        own = (x >= core_x[0]) & (x < core_x[1]) & (y >= core_y[0]) & (y < core_y[1])
        return boxes[own], scores[own], labels[own]

    def network_input(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels on a canvas that the file takes, and the size (height, width) of the image in it."""
        rule, canvas = self.bundle["preprocessing"], self.bundle["canvas"]
        short, long = sorted((picture.height, picture.width))
        ratio = min(rule["short_side"] / short, rule["long_side"] / long)
        if canvas["fixed_hw"]:
            ratio = min(ratio, canvas["fixed_hw"][0] / picture.height, canvas["fixed_hw"][1] / picture.width)
        height, width = (max(1, int(extent * ratio + 1e-9)) for extent in (picture.height, picture.width))
        multiple = rule["pad_multiple"]
        needed = [-(-extent // multiple) * multiple for extent in (height, width)]
        rows, columns = canvas["fixed_hw"] or np.maximum(needed, canvas["least_hw"])
        pixels = np.zeros((1, 3, rows, columns), dtype=np.uint8)
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels[0, :, :height, :width] = np.asarray(resized).transpose(2, 0, 1)
        return pixels, (height, width)

    def record(self, box: np.ndarray, score: float, label: int) -> dict[str, Any]:
        """A detection for the JSON."""
        left, top, right, bottom = (float(value) for value in box)
        classes = self.bundle["classes"]
        return {
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "score": round(float(score), 6),
            "category_id": classes["ids"][label],
            "category": classes["names"][label],
        }


def cores(extent: int, side: int, overlap: float) -> list[Span]:
    """(start, first, last) of the tiles along one side of an image: a core spans [first, last)."""
    last = max(extent - side, 0)
    starts = [*range(0, last, max(1, side - round(side * overlap))), last]
    borders = [(one + other + min(side, extent)) / 2 for one, other in pairwise(starts)]
    return list(zip(starts, [-np.inf, *borders], [*borders, np.inf], strict=True))


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The picture as EXIF turns it, in RGB; transparent pixels fade to black, 16-bit gray is scaled."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("its pixels are 32-bit floats; convert it to 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values leave 0..65535; convert it to 8 or 16 bits")
        return Image.fromarray(np.round(values.astype(np.float32) / 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size), picture.getchannel("A"))
    return picture.convert("RGB")


def answered(detector: Detector, file: Path, score: float | None) -> dict[str, Any]:
    """What the JSON says of one image; one that cannot be read is reported, and has an "error"."""
    try:
        with Image.open(file) as picture:
            return {"file": str(file), "detections": detector(picture, score)}
    except Exception as error:  # decoders raise many things; the other images are to be answered
        print(f"skipped: {file}: {error}", file=sys.stderr)
        return {"file": str(file), "detections": [], "error": str(error)}


def write_whole(file: Path, text: str) -> None:
    """Write a file under another name first: what was there stays until the next one is complete."""
    partial = file.with_name(f".partial-{file.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def main() -> int:
    """The command line: 0, 1 where no image could be read, 2 where nothing could begin."""
    parser = argparse.ArgumentParser(description="Detect objects in images with the model file beside this program.")
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--score", type=float, help="lowest score to keep, 0 to 1 (default: the bundle's)")
    parser.add_argument("--out", type=Path, help="file for the JSON (default: standard output)")
    parser.add_argument("--threads", type=int, default=0, help="0 = all cores")
    arguments = parser.parse_args()
    if arguments.score is not None and not 0 <= arguments.score <= 1:
        parser.error(f"expected a score in [0, 1], got {arguments.score}; change --score")
    try:
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
        detector = Detector(Path(__file__).parent, arguments.threads)
    except Exception as error:  # onnxruntime has its own kinds
        parser.error(f"cannot begin: {error}")
    records = [answered(detector, file, arguments.score) for file in arguments.images]
    text = json.dumps({"images": records})
    if arguments.out is None:
        print(text)
    else:
        write_whole(arguments.out, text)
    return 0 if any("error" not in record for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
