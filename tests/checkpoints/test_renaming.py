"""Renaming loses nothing, and what does not fit says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from smidgen.checkpoints.conversion import OFFICIAL_LAYOUTS
from smidgen.checkpoints.renaming import Layout, from_official, to_official
from smidgen.models import create_model

CASES = [
    pytest.param(system, layout, id=f"{system}: {layout.source}")
    for system, layouts in OFFICIAL_LAYOUTS.items()
    for layout in layouts
    if system not in ("query_det", "retinanet")  # see test_convert_detectron.py
]


def small_model(system: str) -> nn.Module:
    """Random in every tensor; of two decoder layers with thin backbones."""
    sizes = {"width": 32, "num_heads": 4, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 2}
    backbone = {"name": "resnet10t", "options": {"channels": [8, 8, 8, 8], "stem_width": 4}}
    own = {"layer_ratios": [1.0], "background_rows": 9} if system.startswith("salience") else {}
    queries = {} if system in ("dq_detr", "lsq_detr") else {"num_queries": 6}
    model = create_model(f"{system}_r50", num_classes=5, transformer=sizes, backbone=backbone, **queries, **own)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape))
    return model


@pytest.mark.parametrize(("system", "layout"), CASES)
def test_the_way_there_and_back_changes_nothing(system: str, layout: Layout) -> None:
    model = small_model(system)
    back = from_official(layout, model, to_official(layout, model))
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("system", "layout"), CASES)
def test_no_official_name_serves_twice(system: str, layout: Layout) -> None:
    own = small_model(system).state_dict()
    official = [each for name in own for each in layout.official_names(name)]
    assert len(set(official)) == len(official)
    assert not set(official) & set(own), "some tensor kept our name"


@pytest.mark.parametrize(("system", "layout"), CASES)
def test_only_its_own_systems_recognize_a_file(system: str, layout: Layout) -> None:
    official = to_official(layout, small_model(system))
    recognizing = {each for each, known in OFFICIAL_LAYOUTS.items() if any(one.recognizes(official) for one in known)}
    family = {f"{system.removesuffix('_5scale')}{size}" for size in ("", "_5scale")} & OFFICIAL_LAYOUTS.keys()
    # A file of DQ-DETR is one of LSQ-DETR with a channel gate besides.
    assert recognizing == family | ({"lsq_detr"} if system == "dq_detr" else set()) or (
        # Its files may or may not hold what tells the two apart: from_official looks at the values.
        system == "deformable_detr_one_stage" and recognizing == {system, "deformable_detr_refine"}
    )


class Toy(nn.Module):
    """A layer, and two decoder layers to count."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])


LAYOUT = Layout(
    rules=((r"^head\.", "h.0."), (r"^decoder\.", "d.")), aliases=((r"^h\.0\.", "h.{}."),), ignored=("^note$",)
)


def official() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in to_official(LAYOUT, Toy()).items()}


def test_a_shared_head_is_written_once_per_decoder_layer() -> None:
    assert {name for name in official() if name.startswith("h.")} == {
        f"h.{i}.{t}" for i in (0, 1) for t in ("weight", "bias")
    }


def test_aliases_may_be_missing_or_stand_alone() -> None:
    tensors = official() | {"note": torch.zeros(1)}
    for name in ("h.0.weight", "h.1.bias"):
        del tensors[name]
    state = from_official(LAYOUT, Toy(), tensors)
    assert torch.equal(state["head.weight"], tensors["h.1.weight"])
    assert torch.equal(state["head.bias"], tensors["h.0.bias"])


def test_pieces_are_joined_in_their_order() -> None:
    layout = replace(LAYOUT, pieces=((r"^(h\.\d)\.weight$", (r"\1.a", r"\1.b", r"\1.c")),), aliases=())
    model = Toy()
    tensors = to_official(layout, model)
    assert torch.equal(tensors["h.0.b"], model.head.weight[1:2])
    assert torch.equal(from_official(layout, model, tensors)["head.weight"], model.head.weight)


def test_other_spellings_and_stand_ins_are_understood() -> None:
    layout = replace(LAYOUT, spellings=((r"^old\.", "h.0."),), stand_ins=((r"^d\.layers\.1\.", "d.layers.0."),))
    tensors = {name.replace("h.0.", "old."): tensor for name, tensor in official().items() if "layers.1" not in name}
    state = from_official(layout, Toy(), tensors)
    assert torch.equal(state["head.weight"], tensors["old.weight"])
    assert torch.equal(state["decoder.layers.1.weight"], tensors["d.layers.0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h.0.weight": None, "h.1.weight": None}, "expected h.0.weight in the official checkpoint"),
        ({"d.layers.0.weight": torch.zeros(2, 3)}, r"d.layers.0.weight of shape \(2, 2\), got \(2, 3\)"),
        ({"extra.weight": torch.zeros(1)}, "extra.weight of the official checkpoint have no place"),
        ({"h.1.bias": torch.full((3,), 7.0)}, "expected h.1.bias to repeat h.0.bias"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in (official() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        from_official(LAYOUT, Toy(), tensors)


def test_two_tensors_of_one_official_name_are_an_error() -> None:
    layout = Layout(rules=((r"^.*\.(weight|bias)$", r"same.\1"),))
    with pytest.raises(ValueError, match="serves twice"):
        to_official(layout, Toy())


def test_equal_heads_where_they_must_differ_are_an_error() -> None:
    layout = replace(LAYOUT, distinct=r"^d\.layers\.\d\.weight$")
    tensors = official()
    from_official(layout, Toy(), tensors)
    with pytest.raises(ValueError, match="all are equal"):
        from_official(layout, Toy(), tensors | {"d.layers.1.weight": tensors["d.layers.0.weight"]})
