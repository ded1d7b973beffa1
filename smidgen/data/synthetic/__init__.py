"""Labeled scenes rendered by ourselves, looking like the view from a drone: no downloads, exact boxes, any size."""

from smidgen.data.synthetic.config import CATEGORY_IDS, CLASS_NAMES, SCENERIES, SceneConfig
from smidgen.data.synthetic.generate import generate
from smidgen.data.synthetic.scene import render_scene

__all__ = ["CATEGORY_IDS", "CLASS_NAMES", "SCENERIES", "SceneConfig", "generate", "render_scene"]
