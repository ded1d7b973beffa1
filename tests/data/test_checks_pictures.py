"""Single image files: cut off anywhere, too large, turned; and their pixels in a mended copy."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted_defects import CocoSplit, Planted, encoded, picture, png_of_size

from smidgen.data import open_dataset, read_image
from smidgen.data.checks import inspect_dataset, write_clean_copy
from smidgen.data.checks.completeness import missing_part
from smidgen.data.checks.picture_facts import inspect_picture, inspect_pictures

JPEG, PNG = encoded(picture(1), "JPEG", quality=90), encoded(picture(1), "PNG")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_whole_files_lack_nothing(form: str, tmp_path: Path) -> None:
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(form, form.lower())
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(encoded(picture(1), form) + b"appended by a camera")
    facts = inspect_picture(file)
    assert facts.usable and facts.fingerprint is not None
    assert facts.stored_hw == (48, 64) and facts.form == form


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([JPEG, PNG]), st.data())
def test_a_file_cut_anywhere_is_an_error(content: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(content) - 1))
    with NamedTemporaryFile() as file:
        file.write(content[:length])
        file.flush()
        assert not inspect_picture(Path(file.name)).usable


def test_the_preview_of_a_jpeg_does_not_count_as_its_end() -> None:
    preview = b"\xff\xe1" + (2 + len(JPEG)).to_bytes(2, "big") + JPEG
    with_preview = JPEG[:2] + preview + JPEG[2:]
    assert missing_part(with_preview) == ""
    assert "cut off" in missing_part(with_preview[:-2])
    assert "checksum" in missing_part(PNG.replace(b"IDAT", b"IDAU", 1))


def test_nothing_raises_whatever_is_in_the_file(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    starts = [b"", b"GIF89a", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBP", JPEG[:40], PNG[:40], b"P6 9 9 255\n"]
    files = [tmp_path / f"{number}.jpg" for number in range(4 * len(starts))]
    for number, file in enumerate(files):
        file.write_bytes(starts[number % len(starts)] + generator.bytes(200))
    seen: list[int] = []
    facts = list(inspect_pictures([*files, tmp_path / "gone.jpg"], 3, lambda done, total: seen.append(total - done)))
    assert [fact.file for fact in facts] == [*files, tmp_path / "gone.jpg"]
    assert not facts[-1].usable and "no such file" in facts[-1].findings[0].observed
    assert seen == list(range(len(files), -1, -1))


def test_sizes_at_and_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    (tmp_path / "large.png").write_bytes(PNG)
    (tmp_path / "huge.png").write_bytes(png_of_size(640, 480))
    assert [finding.kind for finding in inspect_picture(tmp_path / "large.png").findings] == ["very_large_image"]
    assert [finding.kind for finding in inspect_picture(tmp_path / "huge.png").findings] == ["huge_image"]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_turned_images_are_copied_as_they_were_read(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(3, (64, 48))
    for split, size_wh in (("train", (64, 48)), ("val", (48, 64))):  # boxes on the stored and on the turned picture
        builder = CocoSplit(Planted(tmp_path / "data"), split, seed=0)
        builder.add("a", encoded(stored.point(lambda v, s=split: v // 2 if s == "val" else v), form, exif=exif))
        builder.images[0] |= {"width": size_wh[0], "height": size_wh[1]}
        builder.save()
    if orientation < 5:  # no quarter turn: only one of the sizes is right
        (tmp_path / "data" / "val" / "annotations.json").unlink()
    inspection = inspect_dataset(tmp_path / "data", workers=1)
    assert not {"size_mismatch"} & {finding.kind for finding in inspection.findings}
    copy = write_clean_copy(inspection, tmp_path / "copy")
    for split in inspection.dataset.splits:
        before, after = (open_dataset(path, split).records[0] for path in (tmp_path / "data", copy.folder))
        assert inspect_picture(after.file).orientation == 1
        one, other = read_image(before.file, before.size_hw), read_image(after.file, after.size_hw)
        assert one.shape == other.shape
        assert (one.float() - other.float()).abs().mean() < (2.0 if form == "JPEG" else 1e-9)


def test_boxes_of_a_resized_picture_are_scaled(tmp_path: Path) -> None:
    builder = CocoSplit(Planted(tmp_path / "data"), "train", seed=0)
    builder.add("half.png", picture(5, (32, 24)), boxes=[(3, (4, 6, 8, 10))])
    builder.save()
    copy = write_clean_copy(inspect_dataset(tmp_path / "data", workers=1), tmp_path / "copy")
    record = open_dataset(copy.folder).records[0]
    assert record.boxes_xyxy.tolist() == [[2, 3, 6, 8]] and record.size_hw == (24, 32)
    log = json.loads((copy.folder / "fixes.json").read_text())
    assert log["changes"][0]["done"] == "boxes scaled to the size of the file"
