"""The answers of a shard as two COCO-compatible Parquet tables: its images, and the detections in them.

The images come last: a shard is finished when `images/part-NNNNNN.parquet` is there, and whatever was written before it
is written again by whoever takes up the shard. So nothing is lost and no row is there twice.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.data.image_files import shown
from smidgen.inference.archives.answers import Unreadable
from smidgen.inference.archives.manifest import Shard
from smidgen.inference.archives.storage import Storage
from smidgen.structures import Detections

IMAGES = "images"
DETECTIONS = "detections"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a shard: images with an answer, images that could not be read, detections.

    reused: it was finished before. failure: why it was given up, "" where it was not. notes: limits that were met, one
    per line. tiles, looked_at: as `Answers` has them. (Plain values only: Ray Data makes a row of them.)
    """

    shard: int
    images: int = 0
    unreadable: int = 0
    detections: int = 0
    reused: bool = False
    failure: str = ""
    notes: str = ""
    tiles: int = 0
    looked_at: int = 0


def require_parquet() -> Any:
    """pyarrow. Raises ValueError that says how to get it."""
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError(
            "archives are written as Parquet, which needs an extra: pip install 'smidgen[parquet]'"
        ) from error
    return pyarrow


def image_schema() -> Any:
    """One row per file. height, width: pixels; null, like `detections`, where the file could not be read, and then
    `error` says why (else null).
    """
    arrow = require_parquet()
    return arrow.schema(
        [
            arrow.field("image_id", arrow.int64(), nullable=False),
            arrow.field("file", arrow.string(), nullable=False),
            ("height", arrow.int32()),
            ("width", arrow.int32()),
            ("detections", arrow.int32()),
            ("error", arrow.string()),
        ]
    )


def detection_schema() -> Any:
    """One row per detection, best first within an image. bbox: [x, y, width, height] in pixels of the image, whose size
    is repeated in each row.
    """
    arrow = require_parquet()
    columns = {
        "image_id": arrow.int64(),
        "file": arrow.string(),
        "bbox": arrow.list_(arrow.float64(), 4),
        "score": arrow.float64(),
        "category_id": arrow.int64(),
        "category": arrow.string(),
        "height": arrow.int32(),
        "width": arrow.int32(),
    }
    return arrow.schema([arrow.field(name, kind, nullable=False) for name, kind in columns.items()])


def write_shard(storage: Storage, shard: Shard, answers: Sequence[Detections | Unreadable]) -> Outcome:
    """Finish a shard: one answer per file of it, in their order."""
    ids = range(shard.first_id, shard.first_id + len(shard.files))
    triples = list(zip(ids, map(shown, shard.files), answers, strict=True))
    images = [_image_row(*triple) for triple in triples]
    detections = [row for triple in triples for row in _detection_rows(*triple)]
    storage.write(_place(DETECTIONS, shard.name), _parquet(detections, detection_schema()))
    storage.write(_place(IMAGES, shard.name), _parquet(images, image_schema()))
    return _outcome(shard.index, images)


def finished_shards(storage: Storage) -> set[str]:
    """Names of the shards that need nothing more."""
    return {name.removesuffix(".parquet") for name in storage.names(IMAGES)}


def finished_outcome(storage: Storage, shard: Shard) -> Outcome | None:
    """What a finished shard holds; None for one that is not finished."""
    try:
        rows = read_rows(storage, IMAGES, shard.name)
    except FileNotFoundError:
        return None
    return _outcome(shard.index, rows, reused=True)


def read_rows(storage: Storage, table: str, name: str) -> list[dict[str, Any]]:
    """Rows of a shard's table ("images" or "detections"). Raises FileNotFoundError."""
    content = storage.read(_place(table, name))
    rows: list[dict[str, Any]] = require_parquet().parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows


def all_rows(storage: Storage, table: str) -> Iterator[dict[str, Any]]:
    """Rows of all finished shards, by image id, with one shard in memory at a time."""
    for name in sorted(finished_shards(storage)):
        yield from read_rows(storage, table, name)


def _image_row(image_id: int, file: str, answer: Detections | Unreadable) -> dict[str, Any]:
    row: dict[str, Any] = {"image_id": image_id, "file": file}
    if isinstance(answer, Unreadable):
        return row | {"height": None, "width": None, "detections": None, "error": answer.reason}
    height, width = answer.image_hw
    return row | {"height": height, "width": width, "detections": len(answer), "error": None}


def _detection_rows(image_id: int, file: str, answer: Detections | Unreadable) -> Iterator[dict[str, Any]]:
    if isinstance(answer, Unreadable):
        return
    height, width = answer.image_hw
    for result, label in zip(answer.to_coco(), answer.labels.tolist(), strict=True):
        name = answer.class_names[label] if answer.class_names else str(label)
        yield {**result, "image_id": image_id, "file": file, "category": name, "height": height, "width": width}


def _parquet(rows: list[dict[str, Any]], schema: Any) -> bytes:
    arrow = require_parquet()
    content = io.BytesIO()
    arrow.parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), content, compression="zstd")
    return content.getvalue()


def _outcome(index: int, images: Sequence[dict[str, Any]], reused: bool = False) -> Outcome:
    readable = [row["detections"] for row in images if row["error"] is None]
    return Outcome(index, len(readable), len(images) - len(readable), sum(readable), reused)


def _place(table: str, name: str) -> str:
    return f"{table}/{name}.parquet"
