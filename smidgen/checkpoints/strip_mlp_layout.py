"""Official Strip-MLP files, of classification and of detection, as classifiers that a detector starts from.

Names are those of the official code (Cao et al., "Strip-MLP", ICCV 2023). The authors' detection code (MLP-DINO, IJCAI
2024) spells proj_w proh_w, has the network under backbone.0 beside the detector's tensors and without a head, and plans
its crops with the rounding "half_even", which thereby belongs to its weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from smidgen.checkpoints.classification import Classifier, create_classifier
from smidgen.checkpoints.official_classes import Labels, output_classes
from smidgen.checkpoints.renaming import Layout, from_official
from smidgen.features.strip_mlp import SIZES, StripMLPSize
from smidgen.structures import Classes, Preprocessing

_PARTS = r"(?:patch_embed|blocks\d|merging\d|conv_s\d_\d+|norm|head)\."
_DETECTION_SPELLING = ".proh_w."

STRIP_MLP = Layout(
    rules=(),
    source="Strip-MLP's original code",
    spellings=((rf"^backbone\.(?:0\.)?(?:body\.)?(?={_PARTS})", ""), (re.escape(_DETECTION_SPELLING), ".proj_w.")),
    has=("patch_embed.weight", "blocks1.0.token_mixing.smlp_block.", "conv_s1_28."),
    # What else a detector has.
    ignored=(rf"^(?!{_PARTS})",),
    optional=(r"\.num_batches_tracked$",),
)


def strip_mlp_classifier(
    file: Path,
    official: Mapping[str, Tensor],
    name: str,
    classes: Classes | Path | str | None = None,
    labels: Labels = "ids",
) -> tuple[nn.Module, Classifier]:
    """Strip-MLP of the size `name` with the tensors of a file, and its description.

    classes, labels: of the head's outputs, as `output_classes` reads them; without a head there are none. Errors:
    ValueError where the file is of another network or of another size.
    """
    if not STRIP_MLP.recognizes(official):
        raise ValueError(
            f"expected a checkpoint of Strip-MLP ({STRIP_MLP.source}) in {file}, but its names begin with "
            f"{', '.join(list(official)[:3])}; change the system"
        )
    _check_size(file, STRIP_MLP.respelled(official), name)
    classifier = _description(official, name, classes, labels)
    network = create_classifier(classifier)
    try:
        network.load_state_dict(from_official(STRIP_MLP, network, official))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return network, classifier


def _check_size(file: Path, tensors: Mapping[str, Tensor], name: str) -> None:
    """Errors: ValueError naming the size that the file is of, where there is one."""
    width = len(tensors["patch_embed.weight"])
    found = [re.match(r"blocks(\d)\.(\d+)\.", each) for each in tensors]
    blocks = {match.groups() for match in found if match}
    depths = tuple(sum(stage == str(number) for stage, _ in blocks) for number in range(1, 5))

    def fits(size: StripMLPSize) -> bool:
        return (size.embed_dim, size.depths) == (width, depths)

    if not fits(SIZES[name]):
        known = " or ".join(each for each, size in SIZES.items() if fits(size))
        raise ValueError(
            f"expected {name} ({SIZES[name].embed_dim} channels and {SIZES[name].depths} blocks) in {file}, got "
            f"{width} channels and {depths} blocks; " + (f"say --system {known}" if known else "no size has these")
        )


def _description(
    official: Mapping[str, Tensor], name: str, classes: Classes | Path | str | None, labels: Labels
) -> Classifier:
    head = STRIP_MLP.respelled(official).get("head.weight")
    names = () if head is None else output_classes(len(head), classes, labels).names
    of_detection = any(_DETECTION_SPELLING in each for each in official)
    return Classifier(
        architecture=name,
        class_names=names,
        image_size=SIZES[name].trained_px,
        mean=Preprocessing().mean,
        std=Preprocessing().std,
        options={"rounding": "half_even"} if of_detection else {},
    )
