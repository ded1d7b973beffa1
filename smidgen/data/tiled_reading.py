"""Windows of images that are read more than once: the last few images stay open."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.dataset import Record
from smidgen.data.geometry import Window
from smidgen.data.image_files import UnreadableImageError
from smidgen.data.sample import read_annotated, require_annotated_size
from smidgen.data.windows import DecodedImage, WindowReader, open_in_parts


class OpenImages:
    """At most `capacity` images, the least recently used closed first. Of a TIFF a window decodes what it touches.
    Formats such as JPEG and PNG cannot be decoded in part and stay in memory whole: a window of another such image
    costs as much as that image, and so tiles of one image should be asked for near each other.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._open: OrderedDict[str, tuple[WindowReader, ExitStack]] = OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which opens images itself."""
        return OpenImages, (self.capacity,)

    def window(self, record: Record, window: Window) -> UInt8[Tensor, "3 h w"]:
        """The pixels of a window that lies in the image. Raises UnreadableImageError."""
        right, bottom = window.left + window.width, window.top + window.height
        pixels = self._reader(record).read((window.left, window.top, right, bottom))
        if pixels is None:  # no data: black, as in prediction
            return torch.zeros((3, window.height, window.width), dtype=torch.uint8)
        # A copy: a view would keep a whole decoded image alive.
        return pixels.clone(memory_format=torch.contiguous_format)

    def _reader(self, record: Record) -> WindowReader:
        if self._process != os.getpid():  # forked: two processes must not read by one file's position
            self._open, self._process = OrderedDict(), os.getpid()
        key = str(record.file)
        if key not in self._open:
            self._open[key] = _opened(record)
            if len(self._open) > self.capacity:
                _, (_, closing) = self._open.popitem(last=False)
                closing.close()
        self._open.move_to_end(key)
        return self._open[key][0]


def _opened(record: Record) -> tuple[WindowReader, ExitStack]:
    """A reader, and what closes it. Raises UnreadableImageError."""
    closing = ExitStack()
    try:
        opened = open_in_parts(record.file)
        reader = None if opened is None else closing.enter_context(opened)
    except UnreadableImageError:
        reader = None  # of another kind than rasters have; if nothing reads it, decoding says why
    if reader is None:
        return DecodedImage(read_annotated(record)), closing
    with closing:
        require_annotated_size(record, reader.size_hw)
        return reader, closing.pop_all()
