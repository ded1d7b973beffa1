"""One image file, read to its end: whether it decodes, what kind of picture it is, and its fingerprint."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from smidgen.data.checks.completeness import missing_part
from smidgen.data.checks.findings import Finding
from smidgen.data.checks.fingerprints import Fingerprint, fingerprint
from smidgen.data.image_files import EXIF_ORIENTATION, QUARTER_TURNS, UnreadableImageError, read_image, shown

_WITH_ALPHA = ("RGBA", "LA", "PA")
_WAITING_PER_WORKER = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """stored_hw: (height, width) of the pixels as stored, None where the file has none. orientation: EXIF's number,
    1 = upright. form: Pillow's name of the format. fingerprint: None where the pixels cannot be used. findings: what
    is wrong with the file, whatever its annotations say."""

    file: Path
    stored_hw: tuple[int, int] | None = None
    orientation: int = 1
    form: str = ""
    fingerprint: Fingerprint | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def upright_hw(self) -> tuple[int, int] | None:
        """(height, width) after turning as EXIF says."""
        turned = self.orientation in QUARTER_TURNS and self.stored_hw is not None
        return self.stored_hw[::-1] if turned and self.stored_hw else self.stored_hw

    @property
    def usable(self) -> bool:
        """Whether no error was found in the file."""
        return all(finding.severity != "error" for finding in self.findings)


def inspect_pictures(
    files: Sequence[Path], workers: int = 1, progress: Progress | None = None
) -> Iterator[PictureFacts]:
    """Facts of each file, in order; Pillow decodes outside of Python's lock, so threads use all cores.

    Only a few files per worker are under way at a time, so memory does not grow with the dataset.
    """
    Image.init()  # not in the threads: it fills Pillow's tables of formats
    waiting: deque[Future[PictureFacts]] = deque()
    done = 0
    with warnings.catch_warnings(), ThreadPoolExecutor(max(workers, 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks about files become findings
        for file in [*files, None]:
            if file is not None:
                waiting.append(pool.submit(inspect_picture, file))
            while waiting and (file is None or len(waiting) >= _WAITING_PER_WORKER * workers):
                yield waiting.popleft().result()
                done += 1
                if progress is not None:
                    progress(done, len(files))


def inspect_picture(file: Path) -> PictureFacts:
    """Facts of a file, whatever it holds; never raises."""
    try:
        content = file.read_bytes()
        with Image.open(BytesIO(content)) as picture:
            return _facts(file, content, picture)
    except Image.DecompressionBombError as error:
        return _failed(file, "huge_image", str(error).split(",")[0])
    except Exception as error:  # decoders of broken files raise what they like, and one file must not stop the others
        return _failed(file, "unreadable_image", _reason(file, error))


def _failed(file: Path, kind: str, observed: str) -> PictureFacts:
    return PictureFacts(file, findings=(Finding(kind, shown(file), observed),))


def _reason(file: Path, error: Exception) -> str:
    """In the words of the reader that training uses, if it fails too."""
    try:
        read_image(file)
    except UnreadableImageError as explained:
        return explained.reason
    except Exception as other:
        return str(other) or type(other).__name__
    return str(error) or type(error).__name__


def _facts(file: Path, content: bytes, picture: Image.Image) -> PictureFacts:
    width, height = picture.size
    found = dict(_kinds_from_header(file, picture))
    orientation = int(picture.getexif().get(EXIF_ORIENTATION, 1))
    picture.load()
    if picture.mode in _WITH_ALPHA and _is_transparent(picture):
        found["alpha_image"] = "has transparent pixels"
    found |= _kinds_from_values(file, picture)
    missing = missing_part(content)
    if missing:
        found["damaged_image"] = missing
    return PictureFacts(
        file=file,
        stored_hw=(height, width),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        form=str(picture.format),
        fingerprint=fingerprint(content, picture),
        findings=tuple(Finding(kind, shown(file), observed) for kind, observed in found.items()),
    )


def _is_transparent(picture: Image.Image) -> bool:
    return bool((np.asarray(picture.getchannel("A")) < 255).any())


def _kinds_from_header(file: Path, picture: Image.Image) -> Iterator[tuple[str, str]]:
    """(kind, observed) of what the header tells; the tiles name the bits per value until the picture is loaded."""
    width, height = picture.size
    if width * height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        yield "very_large_image", f"{width} x {height} pixels"
    if picture.mode.startswith("I") or ";16" in str(getattr(picture, "tile", "")):
        yield "sixteen_bit_image", "16 bits or more per value"
    if picture.mode in ("P", "PA"):
        yield "palette_image", "pixels are numbers of a palette"
    if picture.mode == "CMYK":
        yield "cmyk_image", "colors are cyan, magenta, yellow and black"
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # phones put a preview beside the picture
        yield "several_frames", f"{frames} frames"
    expected = Image.registered_extensions().get(file.suffix.lower())
    if expected is not None and expected != picture.format and (expected, picture.format) != ("JPEG", "MPO"):
        yield "wrong_suffix", f"a {picture.format} file"


def _kinds_from_values(file: Path, picture: Image.Image) -> dict[str, str]:
    """Of the modes that hold more than 8 bits, those that training cannot read."""
    if picture.mode == "F":
        return {"float_image": "its pixels are 32-bit floats"}
    if picture.mode.startswith("I"):
        try:
            read_image(file)
        except UnreadableImageError as error:
            return {"unreadable_image": error.reason}
    return {}
