"""From the bytes of a picture to pixels, after its header alone has told that it may be decoded.

A decompression bomb is a small file that says it is a huge picture; the header is checked before a pixel is made.
"""

from __future__ import annotations

import io
import warnings

from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from smidgen.data import UnreadableImageError, read_image
from smidgen.serving.limits import MEGAPIXEL, Limits
from smidgen.serving.refusals import Refusal


def decode(content: bytes, file: str, limits: Limits) -> UInt8[Tensor, "3 H W"]:
    """Pixels of a picture, upright, RGB.

    Raises Refusal 400 (no bytes), 413 (too many pixels), 415 (a format that is not accepted) or 422 (damaged).
    """
    if not content:
        raise Refusal(400, f"{file}: the image is empty", "send the bytes of a picture")
    _check_header(content, file, limits)
    try:
        return read_image(file, content=io.BytesIO(content))
    except UnreadableImageError as error:
        raise Refusal(422, f"{file}: {error.reason}", "send a whole picture") from error
    except Exception as error:  # decoders raise many things, and this request's picture is the cause of all of them
        raise Refusal(
            422, f"{file}: the picture is damaged ({type(error).__name__})", "send a whole picture"
        ) from error


def _check_header(content: bytes, file: str, limits: Limits) -> None:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=limits.formats) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = picture.size
    except UnidentifiedImageError as error:
        accepted = f"send one of {', '.join(limits.formats)}"
        raise Refusal(415, f"{file}: not a picture in a format that is accepted", accepted) from error
    except Image.DecompressionBombError as error:
        raise _too_large(file, str(error), limits) from error
    except Exception as error:
        raise Refusal(422, f"{file}: the header is damaged ({type(error).__name__})", "send a whole picture") from error
    if width * height > limits.pixels:
        raise _too_large(file, f"it has {width} x {height} = {width * height / MEGAPIXEL:.1f} megapixels", limits)


def _too_large(file: str, reason: str, limits: Limits) -> Refusal:
    return Refusal(413, f"{file}: {reason}", f"send at most {limits.megapixels:g} megapixels; cut it into tiles")
