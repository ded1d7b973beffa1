"""Windows of images that are read more than once: the last few images stay decoded."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.dataset import Record
from smidgen.data.geometry import Window
from smidgen.data.sample import read_annotated


class DecodedImages:
    """At most `capacity` images, the least recently used given up first. Formats such as JPEG and PNG cannot be decoded
    in part, so that a window costs as much as its image; tiles of one image should be asked for near each other.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._decoded: OrderedDict[str, UInt8[Tensor, "3 H W"]] = OrderedDict()

    def window(self, record: Record, window: Window) -> UInt8[Tensor, "3 h w"]:
        """The pixels of a window that lies in the image. Raises UnreadableImageError."""
        image = self._image(record)
        # A copy: a view would keep the whole image alive.
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        return image[:, rows, columns].clone()

    def _image(self, record: Record) -> UInt8[Tensor, "3 H W"]:
        key = str(record.file)
        if key not in self._decoded:
            self._decoded[key] = read_annotated(record)
            if len(self._decoded) > self.capacity:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(key)
        return self._decoded[key]
