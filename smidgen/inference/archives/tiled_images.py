"""Each image of a shard looked at in tiles: a file on this disk in windows, an object as a copy that lasts as long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from smidgen.data import UnreadableImageError
from smidgen.inference.archives.answers import Answers, Unreadable
from smidgen.inference.archives.inputs import window_source
from smidgen.inference.archives.weights_fingerprint import weights_fingerprint
from smidgen.inference.guided_tiling import Guide, tile_chooser
from smidgen.inference.tiling.prediction import TiledSettings, detect_tiled


@dataclass(frozen=True, slots=True)
class TiledImages:
    """Detects in overlapping tiles. guide: which of them deserve a look (None: all)."""

    settings: TiledSettings
    guide: Guide | None = None

    def __call__(self, model: nn.Module, files: Sequence[str]) -> Answers:
        """Answers of a shard; tiles of consecutive images share batches."""
        answers = Answers()

        def skip(file: str, error: UnreadableImageError) -> None:
            answers.by_file[file] = Unreadable(error.reason)

        chosen = tile_chooser(model, self.guide, self.settings.tiling, self.settings.device)
        sources = map(window_source, files)
        note = answers.notes.append
        for found in detect_tiled(model, sources, self.settings, on_unreadable=skip, on_note=note, choose=chosen):
            answers.by_file[found.file] = found
        if chosen is not None:
            answers.tiles, answers.looked_at = chosen.num_tiles, chosen.num_chosen
        return answers

    def described(self) -> dict[str, Any]:
        """For the manifest: what an answer depends on."""
        guide = self.guide
        if guide is None:
            return {"detection": "tiles", "tiling": self.settings.tiling.described()}
        weights = None if guide.model is None else weights_fingerprint(guide.model)
        return {
            "detection": "tiles that a guide chooses",
            "tiling": self.settings.tiling.described(),
            "guide": {**guide.described(), "weights": weights},
        }
