from __future__ import annotations

from bright_spot import bright_spot, spot_image

__all__ = ["bright_spot", "spot_image"]
