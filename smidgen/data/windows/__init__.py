"""Windows of image files, read one at a time without decoding the rest where the format allows it.

- TIFF of any kind and JPEG 2000: through rasterio, where it is installed (`pip install 'smidgen[geo]'`).
- Uncompressed gray and RGB TIFF, tiled or in strips: through Pillow, with nothing else.
- Everything else (PNG, JPEG, WebP ...; compressed TIFF without rasterio) is decoded whole, if memory allows.
"""

from smidgen.data.windows.decoded_image import DecodedImage
from smidgen.data.windows.opening import open_in_parts, open_windows
from smidgen.data.windows.pixel_rules import PixelRules
from smidgen.data.windows.window_reader import WindowReader, WindowXYXY

__all__ = ["DecodedImage", "PixelRules", "WindowReader", "WindowXYXY", "open_in_parts", "open_windows"]
