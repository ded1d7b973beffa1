"""Datasets with one defect per image, and the list of what a check has to find in them, no more and no less."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

Box = Sequence[Any]
CAR, BOAT, UNUSED, ONLY_IN_VAL = 3, 7, 8, 9
CATEGORIES = {CAR: "car", BOAT: "boat", UNUSED: "plane", ONLY_IN_VAL: "train"}
CLEAN_BOXES: tuple[tuple[int, Box], ...] = ((CAR, (4, 6, 8, 8)), (BOAT, (20, 10, 12, 9)))
SIZE_WH = (64, 48)


@dataclass(frozen=True)
class Defect:
    """What a check has to report: kind, and the name of the file or folder where."""

    kind: str
    file: str


@dataclass
class Planted:
    """A dataset under construction in `root`, and the defects in it."""

    root: Path
    defects: list[Defect] = field(default_factory=list)

    def defect(self, kind: str, file: str | Path) -> None:
        self.defects.append(Defect(kind, Path(file).name))


def picture(seed: int, size_wh: tuple[int, int] = SIZE_WH) -> Image.Image:
    """Blotches that no other seed's picture looks like."""
    blotches = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize(size_wh, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that claim to be a picture of any size."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _wrong_checksum(content: bytes) -> bytes:
    """A PNG whose comment was changed after its checksum was taken."""
    end = content.index(b"IEND") - 4
    comment = bytearray(_chunk(b"tEXt", b"Comment\0planted"))
    comment[-1] ^= 0xFF
    return content[:end] + bytes(comment) + content[end:]


@dataclass
class CocoSplit:
    """SPLIT/annotations.json with SPLIT/images/; every image has boxes that are right unless others are given."""

    planted: Planted
    name: str
    seed: int
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    categories: dict[int, str] = field(default_factory=lambda: dict(CATEGORIES))

    def add(
        self,
        name: str,
        content: bytes | Image.Image | None = None,
        *,
        boxes: Sequence[tuple[Any, Box]] = CLEAN_BOXES,
        size_wh: tuple[int, int] = SIZE_WH,
        kind: str = "",
    ) -> None:
        """An image with its annotations; content: a file's bytes or a picture, None draws one. kind: of the defect."""
        self.write(name, content)
        identity = len(self.images) + 1
        self.images.append({"id": identity, "file_name": name, "width": size_wh[0], "height": size_wh[1]})
        for category, bbox in boxes:
            self.annotate(identity, category, bbox)
        if kind:
            self.planted.defect(kind, name)

    def write(self, name: str, content: bytes | Image.Image | None = None) -> None:
        """Only the file."""
        file = self.planted.root / self.name / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            self.seed += 1
            content = picture(self.seed)
        file.write_bytes(content if isinstance(content, bytes) else encoded(content, "PNG"))

    def annotate(self, image: int, category: Any, bbox: Any, **fields: Any) -> None:
        entry = {"id": len(self.annotations) + 1, "image_id": image, "category_id": category, "bbox": bbox}
        self.annotations.append(entry | {"iscrowd": 0} | fields)

    def with_box(self, name: str, box: Any, kind: str, category: Any = CAR) -> None:
        """An image with one box more, which is the defect."""
        self.add(name, boxes=[*CLEAN_BOXES, (category, box)], kind=kind)

    def save(self) -> None:
        categories = [{"id": identity, "name": name} for identity, name in self.categories.items()]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        (self.planted.root / self.name / "annotations.json").write_text(json.dumps(content))


def plant_coco(root: Path) -> Planted:
    """Nearly everything that can be wrong, in a COCO dataset of two splits."""
    planted = Planted(root)
    train, val = CocoSplit(planted, "train", seed=100), CocoSplit(planted, "val", seed=500)
    for split in (train, val):
        for number in range(3):
            split.add(f"{split.name}_clean{number}.png")
    _plant_files(train)
    _plant_forms(train)
    _plant_boxes(train)
    _plant_entries(train)
    _plant_copies(train, val)
    val.with_box("only_in_val.png", (30, 30, 9, 9), "", category=ONLY_IN_VAL)
    planted.defect("unseen_category", root)
    planted.defect("unused_category", root)
    for split in (train, val):
        split.save()
    return planted


def _plant_files(train: CocoSplit) -> None:
    """Files that cannot be used."""
    jpeg, png = encoded(picture(1), "JPEG", quality=95), encoded(picture(2), "PNG")
    train.add("empty.jpg", b"", kind="unreadable_image")
    train.add("half.jpg", jpeg[: len(jpeg) // 2], kind="unreadable_image")
    train.add("half.png", png[: len(png) // 2], kind="unreadable_image")
    train.add("text.jpg", b"<html>404 not found</html>", kind="unreadable_image")
    train.add("ends_early.jpg", jpeg[:-2], kind="unreadable_image")
    train.add("without_end.png", png[:-12], kind="damaged_image")
    train.add("without_end.jpg", jpeg[:-2] + bytes(64), kind="damaged_image")
    train.add("wrong_checksum.png", _wrong_checksum(encoded(picture(3), "PNG")), kind="damaged_image")
    train.add("bomb.png", png_of_size(30_000, 30_000), kind="huge_image")
    floats = Image.fromarray(np.random.default_rng(4).random((48, 64), dtype=np.float32))
    train.add("floats.tif", encoded(floats, "TIFF"), kind="float_image")
    beyond = Image.fromarray(np.full((48, 64), 100_000, dtype=np.int32))
    train.add("beyond_16_bits.tif", encoded(beyond, "TIFF"), kind="unreadable_image")
    train.planted.defect("sixteen_bit_image", "beyond_16_bits.tif")
    train.add("half_as_large.png", picture(5, (32, 24)), kind="size_mismatch")
    train.add("other_shape.png", picture(6, (64, 32)), kind="size_mismatch")
    train.add("missing.png", kind="missing_image")
    (train.planted.root / train.name / "images" / "missing.png").unlink()


def _plant_forms(train: CocoSplit) -> None:
    """Pictures of unusual kinds, which are read but deserve a word."""
    gray = np.asarray(picture(10).convert("L"), dtype=np.uint16) * 257
    train.add("sixteen_bits.png", Image.fromarray(gray), kind="sixteen_bit_image")
    train.add("cmyk.jpg", encoded(picture(11).convert("CMYK"), "JPEG"), kind="cmyk_image")
    train.add("palette.png", picture(12).convert("P"), kind="palette_image")
    alpha = picture(13).convert("RGBA")
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    train.add("alpha.png", alpha, kind="alpha_image")
    frames = encoded(picture(14), "TIFF", save_all=True, append_images=[picture(15)])
    train.add("frames.tif", frames, kind="several_frames")
    train.add("png_named.jpg", encoded(picture(16), "PNG"), kind="wrong_suffix")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(17, (48, 64)), "JPEG", exif=exif)
    train.add("turned_upright_boxes.jpg", turned, kind="exif_rotated")
    stored = encoded(picture(18, (64, 48)), "JPEG", exif=exif)
    train.add("turned_stored_boxes.jpg", stored, kind="exif_rotated")


def _plant_boxes(train: CocoSplit) -> None:
    train.with_box("zero_width.png", (5, 20, 0, 5), "degenerate_box")
    train.with_box("not_a_number.png", (5, 20, float("nan"), 5), "degenerate_box")
    train.with_box("inverted.png", (30, 30, -8, -6), "inverted_box")
    train.with_box("outside.png", (90, 5, 8, 8), "outside_box")
    train.with_box("over_border.png", (50, 30, 30, 9), "clipped_box")
    train.with_box("three_numbers.png", (5, 20, 7), "malformed_label")
    train.with_box("undeclared.png", (5, 20, 7, 7), "unknown_category", category=77)
    train.with_box("twice.png", CLEAN_BOXES[0][1], "duplicate_box")
    train.with_box("two_classes.png", CLEAN_BOXES[0][1], "conflicting_box", category=BOAT)
    train.with_box("whole_image.png", (0, 0, 64, 48), "large_box")
    train.with_box("one_pixel.png", (40, 40, 1, 1), "tiny_box")


def _plant_entries(train: CocoSplit) -> None:
    """Ids and lists."""
    name, planted = "annotations.json", train.planted
    train.annotate(999, CAR, (4, 4, 8, 8))
    planted.defect("unknown_image", name)
    train.annotate(1, BOAT, (40, 4, 8, 8), id=2)
    planted.defect("duplicate_annotation_id", name)
    train.annotate(1, BOAT, (40, 20, 8, 8), id=0)
    planted.defect("annotation_id_zero", name)
    train.add("same_id.png")
    train.images[-1]["id"] = 1
    train.annotations = [entry for entry in train.annotations if entry["image_id"] != len(train.images)]
    planted.defect("duplicate_image", "same_id.png")
    train.write("unlisted.png")
    planted.defect("unlisted_image", "unlisted.png")
    train.add("listed_twice.png")
    train.images.append(train.images[-1] | {"id": 1000})
    train.annotate(1000, CAR, (50, 30, 6, 6))
    planted.defect("listed_twice", "listed_twice.png")
    train.add("background.png", boxes=())
    planted.defect("images_without_objects", planted.root)


def _plant_copies(train: CocoSplit, val: CocoSplit) -> None:
    copied, resaved, larger = (picture(seed) for seed in (20, 21, 22))
    train.add("original.png", copied)
    train.add("copy.png", copied, kind="duplicate_file")
    train.add("saved_once.png", resaved)
    train.add("saved_again.jpg", encoded(resaved, "JPEG", quality=70), kind="similar_image")
    train.add("first_size.png", larger)
    val.add("other_size.png", larger.resize((96, 72)), size_wh=(96, 72), kind="similar_image_in_two_splits")
    leaked = picture(23)
    train.add("in_train.png", leaked)
    val.add("in_val.png", leaked, kind="image_in_two_splits")


def plant_categories(root: Path) -> Planted:
    """Splits that disagree about their categories, one of which stands there twice."""
    planted = Planted(root)
    train, val = CocoSplit(planted, "train", seed=700), CocoSplit(planted, "val", seed=800)
    train.categories, val.categories = {CAR: "car", BOAT: "boat", 9: "Car "}, {CAR: "car", BOAT: "ship"}
    train.add("a.png", boxes=[*CLEAN_BOXES, (9, (40, 30, 8, 8))])
    val.add("b.png")
    for split in (train, val):
        split.save()
    for kind in ("duplicate_category", "different_categories", "unseen_category"):
        planted.defect(kind, root)
    return planted


def plant_corners(root: Path) -> Planted:
    """A COCO file whose boxes are x0 y0 x1 y1."""
    planted = Planted(root)
    train = CocoSplit(planted, "train", seed=900)
    train.categories = {CAR: "car"}
    for number in range(4):
        corners = [(CAR, (x, 20, x + 9, 30)) for x in (6, 20, 52)]
        train.add(f"corners{number}.png", boxes=corners, kind="clipped_box")
    train.save()
    planted.defect("box_order", "annotations.json")
    return planted


def plant_yolo(root: Path) -> Planted:
    """What can be wrong with label files."""
    planted = Planted(root)
    names = {0: "car", 1: "boat", 2: "Boat"}
    (root / "labels" / "train").mkdir(parents=True)
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "test": "images/test", "names": names}))
    planted.defect("unusable_split", root)
    planted.defect("duplicate_category", root)
    good = "0 0.5 0.5 0.2 0.2\n1 0.2 0.3 0.1 0.1\n2 0.7 0.3 0.1 0.1\n"
    labels = {
        "clean": (good, ""),
        "in_pixels": (good + "0 32 24 8 8\n", "not_normalized"),
        "words": (good + "car 0.5 0.5 0.2 0.2\n", "malformed_label"),
        "class_5": (good + "5 0.5 0.5 0.2 0.2\n", "unknown_category"),
        "no_height": (good + "0 0.4 0.6 0.2 0\n", "degenerate_box"),
        "negative": (good + "0 0.4 0.6 -0.2 0.1\n", "inverted_box"),
        "above": (good + "0 0.4 1.7 0.2 0.1\n", "not_normalized"),
    }
    for seed, (name, (lines, kind)) in enumerate(labels.items(), start=1000):
        _yolo_image(root, name, picture(seed), lines)
        if kind:
            # Boxes are reported at their image, lines at their label file.
            planted.defect(kind, f"{name}.{'png' if kind.endswith('_box') else 'txt'}")
    planted.defect("outside_box", "in_pixels.png")
    planted.defect("outside_box", "above.png")
    _yolo_image(root, "no_labels", picture(1100), None)
    planted.defect("missing_labels", "no_labels.png")
    planted.defect("images_without_objects", root)
    _yolo_image(root, "broken", b"\x89PNG\r\n", good)
    planted.defect("unreadable_image", "broken.png")
    (root / "labels" / "train" / "orphan.txt").write_text(good)
    planted.defect("label_without_image", "orphan.txt")
    (root / "labels" / "train" / "classes.txt").write_text("car\nboat\n")  # as labeling tools leave it
    return planted


def _yolo_image(root: Path, name: str, content: Image.Image | bytes, lines: str | None) -> None:
    file = root / "images" / "train" / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else encoded(content, "PNG"))
    if lines is not None:
        (root / "labels" / "train" / f"{name}.txt").write_text(lines)


def plant_yolo_corners(root: Path) -> Planted:
    """Label files whose boxes are x0 y0 x1 y1."""
    planted = Planted(root)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": ["car"]}))
    lines = "".join(f"0 {x} 0.7 {x + 0.2:.2f} 0.9\n" for x in (0.1, 0.4, 0.7))
    for number in range(4):
        _yolo_image(root, f"corners{number}", picture(1200 + number), lines)
        planted.defect("clipped_box", f"corners{number}.png")
    planted.defect("box_order", root / "labels" / "train")
    return planted


PLANTERS = {
    "coco": plant_coco,
    "categories": plant_categories,
    "corners": plant_corners,
    "yolo": plant_yolo,
    "yolo_corners": plant_yolo_corners,
}
