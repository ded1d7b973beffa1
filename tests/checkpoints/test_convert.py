"""Official files become checkpoints that compute the same, and files that cannot say why."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from smidgen import checkpoints
from smidgen.checkpoints import convert, load
from smidgen.checkpoints.conversion import OFFICIAL_LAYOUTS
from smidgen.checkpoints.renaming import to_official
from smidgen.models import create_model
from smidgen.structures import Classes, FeaturePyramid

sys.path.append(str(Path(__file__).parents[1] / "parity"))
from golden import Case, golden_folder

BACKBONE = {"name": "resnet10t", "options": {"channels": [8, 8, 8, 8], "stem_width": 4}}
SIZES = {"width": 32, "num_heads": 4, "num_points": 2, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 2}
STRIDES = {"strides": (8, 16, 32)}
HEADS = {"num_heads": 4}
# What the shapes of a file do not tell.
SALIENCE = {"level_ratios": (0.5, 1.0, 1.0), "layer_ratios": (0.8,), "level_limits_px": None}
COUNTED = {"budgets": (3, 6), "count_thresholds": (4,)}
UNTOLD: dict[str, dict[str, Any]] = {
    "salience_detr": SALIENCE,
    "salience_detr_5scale": SALIENCE,
    "dq_detr": COUNTED,
    "lsq_detr": COUNTED | {"quotas": {6: (0.5, 0.3, 0.2)}},
}


def small_model(system: str, **settings: Any) -> nn.Module:
    """Random in every tensor, and other than the defaults in every size that shapes can tell."""
    queries = {} if "budgets" in UNTOLD.get(system, {}) else {"num_queries": 6}
    settings = {"num_classes": 5, "num_levels": 3, "transformer": SIZES} | queries | UNTOLD.get(system, {}) | settings
    model = create_model(f"{system}_r50", backbone=BACKBONE | settings.pop("backbone", {}), **settings)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape))
    return model


def official(system: str, model: nn.Module) -> dict[str, Tensor]:
    return to_official(OFFICIAL_LAYOUTS[system][0], model)


# The dense family: test_convert_detectron.py.
@pytest.mark.parametrize("system", sorted(OFFICIAL_LAYOUTS.keys() - {"query_det", "retinanet"}))
def test_a_converted_model_has_the_sizes_and_tensors_of_the_file(system: str, tmp_path: Path) -> None:
    original = small_model(system, backbone={"strides": (8, 16, 32)})
    torch.save({"model": official(system, original), "epoch": 11}, tmp_path / "official.pth")
    told = (
        not hasattr(original.config, "num_queries") or original.proposals is None or hasattr(original.content, "table")
    )
    settings: dict[str, Any] = UNTOLD.get(system, {}) | ({} if told else {"num_queries": 6})
    report = convert(
        tmp_path / "official.pth", system, tmp_path / "ours", backbone=BACKBONE, transformer=HEADS, **settings
    )
    model = load(tmp_path / "ours")
    assert report.model == model.name == f"{system}_r50"
    assert model.config == replace(original.config, parity=True)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in original.state_dict().items())
    assert model.classes == Classes.numbered(5)


def test_strides_and_levels_are_told_by_the_neck(tmp_path: Path) -> None:
    original = small_model("dino", num_levels=5, backbone={"strides": (4, 8, 16, 32)})
    save_file({name: tensor.clone() for name, tensor in official("dino", original).items()}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", "dino", tmp_path / "ours", backbone=BACKBONE, transformer=HEADS)
    assert load(tmp_path / "ours").config.backbone.strides == (4, 8, 16, 32)


def test_a_files_ratios_are_read_and_what_is_given_wins(tmp_path: Path) -> None:
    tensors = official("salience_detr", small_model("salience_detr"))
    tensors["transformer.level_filter_ratio"] = torch.tensor(SALIENCE["level_ratios"])
    tensors["transformer.layer_filter_ratio"] = torch.tensor([0.8])
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "official.pth")
    given = {"backbone": BACKBONE, "transformer": HEADS, "level_limits_px": None}
    convert(tmp_path / "official.pth", "salience_detr", tmp_path / "read", **given)
    config = load(tmp_path / "read").config
    assert (config.level_ratios, config.layer_ratios, config.fusion) == ((0.5, 1.0, 1.0), (0.8,), True)
    convert(tmp_path / "official.pth", "salience_detr", tmp_path / "given", layer_ratios=(0.3,), **given)
    assert load(tmp_path / "given").config.layer_ratios == (0.3,)


def test_a_file_without_fusion_is_the_faster_variant(tmp_path: Path) -> None:
    torch.save(official("salience_detr", small_model("salience_detr", fusion=False)), tmp_path / "official.pth")
    convert(tmp_path / "official.pth", "salience_detr", tmp_path, backbone=BACKBONE, transformer=HEADS, **SALIENCE)
    assert not load(tmp_path).config.fusion


def test_a_relation_is_told_by_its_weights(tmp_path: Path) -> None:
    for relation in (True, False):
        original = small_model("dino_plus", relation=relation)
        torch.save(official("dino_plus", original), tmp_path / "official.pth")
        # Its projection has an output per head: nothing about heads needs to be said then.
        heads = {} if relation else {"transformer": HEADS}
        convert(tmp_path / "official.pth", "dino_plus", tmp_path / "ours", backbone=BACKBONE, **heads)
        config = load(tmp_path / "ours").config
        assert (config.relation, config.transformer) == (relation, original.config.transformer)


@pytest.mark.parametrize(("rows", "kept"), [(6, None), (7, 7), (92, 92), (5, 5)])
def test_a_label_table_may_have_any_number_of_rows(rows: int, kept: int | None, tmp_path: Path) -> None:
    original = small_model("dino", label_rows=rows)
    torch.save(official("dino", original), tmp_path / "official.pth")
    convert(tmp_path / "official.pth", "dino", tmp_path / "ours", backbone=BACKBONE, transformer=HEADS)
    model = load(tmp_path / "ours")
    assert model.config.label_rows == kept
    assert len(model.denoising.label_encoder.weight) == rows


def test_other_classes_of_counts_than_the_files_are_refused_before_a_model_is_built(tmp_path: Path) -> None:
    torch.save(official("dq_detr", small_model("dq_detr", backbone=STRIDES)), tmp_path / "official.pth")
    for given in ({}, {"budgets": (3, 6)}, {"count_thresholds": (4,), "budgets": (3, 6, 9)}):
        with pytest.raises(ValueError, match=r"2 classes of object counts.* 1 in count_thresholds and 2 in budgets"):
            convert(tmp_path / "official.pth", "dq_detr", tmp_path / "ours", backbone=BACKBONE, **given)


def test_thresholds_and_budgets_that_were_assumed_are_said(tmp_path: Path) -> None:
    original = small_model("dq_detr", backbone=STRIDES, count_thresholds=(10, 100, 500), budgets=(3, 5, 7, 9))
    torch.save(official("dq_detr", original), tmp_path / "official.pth")
    arguments = (tmp_path / "official.pth", "dq_detr", tmp_path / "ours")
    report = convert(*arguments, backbone=BACKBONE, transformer=HEADS, budgets=(3, 5, 7, 9))
    assert report.assumed == {"count_thresholds": (10, 100, 500)}
    assert "assumed, as the file does not tell: count_thresholds=(10, 100, 500)" in str(report)
    complete = convert(
        *arguments, backbone=BACKBONE, transformer=HEADS, budgets=(3, 5, 7, 9), count_thresholds=(2, 4, 6)
    )
    assert complete.assumed == {} and "assumed" not in str(complete)


@pytest.mark.parametrize("system", ["salience_detr", "dq_detr", "lsq_detr"])
def test_tensors_that_nobody_knows_are_left_out_and_named(system: str, tmp_path: Path) -> None:
    extra = {"post_process.weights": torch.zeros(2), "transformer.unknown.bias": torch.zeros(1)}
    torch.save(official(system, small_model(system, backbone=STRIDES)) | extra, tmp_path / "official.pth")
    settings = {"backbone": BACKBONE, "transformer": HEADS} | UNTOLD[system]
    report = convert(tmp_path / "official.pth", system, tmp_path / "ours", **settings)
    assert set(report.ignored) == set(extra)
    assert "post_process.weights" in str(report)


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("salience_detr", "transformer.encoder.layers.4.norm1.weight"),
        ("salience_detr", "backbone.layer3.9.conv1.weight"),
        ("dq_detr", "transformer.decoder.layers.4.norm1.weight"),
        ("lsq_detr", "bbox_embed.7.layers.0.weight"),
    ],
)
def test_tensors_of_a_larger_network_are_refused(system: str, name: str, tmp_path: Path) -> None:
    torch.save(
        official(system, small_model(system, backbone=STRIDES)) | {name: torch.zeros(1)}, tmp_path / "official.pth"
    )
    settings = {"backbone": BACKBONE, "transformer": HEADS} | UNTOLD[system]
    with pytest.raises(ValueError, match="have no place in this model"):
        convert(tmp_path / "official.pth", system, tmp_path / "ours", **settings)


def test_what_trainings_store_around_the_weights_is_taken_off(tmp_path: Path) -> None:
    weights = official("dino", small_model("dino"))
    namespace = argparse.Namespace(lr=1e-4, names=["a"])
    for content in (
        {"model": {f"module.{name}": tensor for name, tensor in weights.items()}, "args": namespace, "epoch": 3},
        {"ema": {"module": weights, "updates": 7}},
        {"state_dict": weights, "loss": torch.zeros(1)},
    ):
        torch.save(content, tmp_path / "official.pth")
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours", backbone=BACKBONE, transformer=HEADS)
        assert torch.equal(load(tmp_path / "ours").flatten.level_embed, weights["transformer.level_embed"])


def test_buffers_without_meaning_are_left_out_and_reported(tmp_path: Path) -> None:
    extra = {"_classes_": torch.zeros(3), "backbone.bn1.num_batches_tracked": torch.tensor(0)}
    torch.save(official("dino_plus", small_model("dino_plus")) | extra, tmp_path / "official.pth")
    report = convert(tmp_path / "official.pth", "dino_plus", tmp_path / "ours", backbone=BACKBONE)
    assert set(report.ignored) == set(extra)
    assert "2 left out" in str(report)


def test_a_catalogue_name_with_its_size_is_taken_as_it_is(tmp_path: Path) -> None:
    original = create_model("dino_nano", num_classes=3)
    torch.save(official("dino", original), tmp_path / "official.pth")
    report = convert(tmp_path / "official.pth", "dino_nano", tmp_path / "ours")
    assert report.model == load(tmp_path / "ours").name == "dino_nano"


def categories(path: Path, ids: dict[int, str]) -> Path:
    path.write_text(json.dumps({"categories": [{"id": key, "name": name} for key, name in ids.items()]}))
    return path


def converted_classes(tmp_path: Path, **arguments: Any) -> Classes:
    torch.save(official("dino", small_model("dino")), tmp_path / "official.pth")
    convert(tmp_path / "official.pth", "dino", tmp_path / "ours", backbone=BACKBONE, transformer=HEADS, **arguments)
    classes = load(tmp_path / "ours").classes
    assert isinstance(classes, Classes)
    return classes


def codes(*names: str) -> Tensor:
    """As the releases store names: codes of the characters, -1 between two names."""
    return torch.tensor([code for name in names for code in (*map(ord, name), -1)][:-1])


def classes_of_a_file(stored: Tensor, tmp_path: Path, **arguments: Any) -> tuple[Classes, tuple[str, ...]]:
    weights = official("dino_plus", small_model("dino_plus")) | {"_classes_": stored}
    torch.save(weights, tmp_path / "official.pth")
    report = convert(tmp_path / "official.pth", "dino_plus", tmp_path / "ours", backbone=BACKBONE, **arguments)
    return load(tmp_path / "ours").classes, report.ignored


def test_names_in_a_file_name_its_outputs(tmp_path: Path) -> None:
    names = ("car", "traffic light", "vélo", "d", "e")
    assert classes_of_a_file(codes(*names), tmp_path) == (Classes(names, (0, 1, 2, 3, 4)), ())


def test_classes_that_are_given_win_over_names_in_a_file(tmp_path: Path) -> None:
    given = Classes(("a", "b", "c", "d", "e"), (3, 1, 4, 15, 9))
    stored = codes("v", "w", "x", "y", "z")
    assert classes_of_a_file(stored, tmp_path, classes=given) == (given, ("_classes_",))


@pytest.mark.parametrize(
    "stored",
    [codes("a", "b"), codes("a", "b", "", "d", "e"), torch.full((9,), 2**40), torch.zeros(0, dtype=torch.long)],
)
def test_names_that_are_not_one_per_output_are_ignored(stored: Tensor, tmp_path: Path) -> None:
    assert classes_of_a_file(stored, tmp_path) == (Classes.numbered(5), ("_classes_",))


def test_outputs_are_ids_of_categories(tmp_path: Path) -> None:
    file = categories(tmp_path / "coco.json", {4: "boat", 1: "car"})
    found = converted_classes(tmp_path, classes=file)
    assert found == Classes(("unused 0", "car", "unused 2", "unused 3", "boat"), (0, 1, 2, 3, 4))


def test_outputs_are_categories_in_order_where_that_is_said(tmp_path: Path) -> None:
    file = categories(tmp_path / "coco.json", {90: "e", 2: "a", 3: "b", 5: "c", 8: "d"})
    found = converted_classes(tmp_path, classes=file, labels="contiguous")
    assert found == Classes(("a", "b", "c", "d", "e"), (2, 3, 5, 8, 90))


def test_finished_classes_are_kept(tmp_path: Path) -> None:
    classes = Classes(("a", "b", "c", "d", "e"), (3, 1, 4, 15, 9))
    assert converted_classes(tmp_path, classes=classes) == classes


@pytest.mark.parametrize(
    ("content", "labels", "message"),
    [
        ({"categories": [{"id": 7, "name": "a"}]}, "ids", "from 0 to 4 .* got 7; .*labels='contiguous'"),
        ({"categories": [{"id": 7, "name": "a"}]}, "contiguous", "the 5 outputs of the checkpoint, got 1"),
        ({"images": []}, "ids", "expected a COCO json with categories"),
        ([], "ids", "expected a COCO json with categories"),
    ],
)
def test_classes_that_do_not_fit_are_an_error(content: Any, labels: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        converted_classes(tmp_path, classes=tmp_path / "coco.json", labels=labels)
    assert not (tmp_path / "ours").exists()


def test_an_unknown_system_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"system with official releases .*dino.* got 'yolo'"):
        convert(tmp_path / "official.pth", "yolo", tmp_path / "ours")


def test_a_file_of_another_system_is_named(tmp_path: Path) -> None:
    torch.save(official("dino_plus", small_model("dino_plus")), tmp_path / "official.pth")
    with pytest.raises(ValueError, match=r"checkpoint of dino \(DINO's original code\).* looks like dino_plus"):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours")


def test_a_file_of_no_system_shows_its_names(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "official.pth")
    with pytest.raises(ValueError, match=r"its names begin with conv1\.weight"):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours")


@pytest.mark.parametrize(
    ("without", "extra", "message"),
    [
        ("transformer.decoder.norm.weight", {}, r"official\.pth: expected transformer\.decoder\.norm\.weight"),
        ("class_embed.0.weight", {}, "has no class heads"),
        (None, {"odd": torch.zeros(1)}, r"official\.pth: odd of the official checkpoint have no place"),
    ],
)
def test_missing_and_unknown_tensors_are_named(
    without: str | None, extra: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    weights = official("dino", small_model("dino")) | extra
    torch.save({name: tensor for name, tensor in weights.items() if name != without}, tmp_path / "official.pth")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours", backbone=BACKBONE, transformer=HEADS)


def test_another_number_of_heads_is_asked_for(tmp_path: Path) -> None:
    sizes = SIZES | {"num_points": 1, "num_heads": 2}
    torch.save(official("dino", small_model("dino", transformer=sizes)), tmp_path / "official.pth")
    with pytest.raises(ValueError, match="give the number of heads"):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours", backbone=BACKBONE)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "score": Fraction(1, 2)}, tmp_path / "official.pth")
    with pytest.raises(ValueError, match=r"would run code .*fractions\.Fraction.*store the weights alone"):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours")


@pytest.mark.parametrize("name", ["official.pth", "official.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        convert(tmp_path / name, "dino", tmp_path / "ours")


def test_a_picture_is_not_called_dangerous(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture")
    with pytest.raises(ValueError, match=r"picture.jpg is damaged or no checkpoint of torch"):
        convert(tmp_path / "picture.jpg", "dino", tmp_path / "ours")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"model": {}}])
def test_a_file_without_tensors_is_an_error(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "official.pth")
    with pytest.raises(ValueError, match="expected tensors by name"):
        convert(tmp_path / "official.pth", "dino", tmp_path / "ours")


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "official.pkl").write_bytes(pickle.dumps({"model": Fraction(1, 2)}, protocol=2))
    with pytest.raises(ValueError, match=r"official\.pkl"):
        convert(tmp_path / "official.pkl", "dino", tmp_path / "ours")


def test_the_module_does_not_hide_the_function() -> None:
    import smidgen.checkpoints.conversion

    assert callable(checkpoints.convert) and callable(smidgen.checkpoints.convert)


GOLDEN = {
    "deformable_two_stage": "deformable_detr",
    "dab_deformable_two_stage": "dab_deformable_detr",
    "dn_deformable": "dn_deformable_detr",
    "dino": "dino_plus",
    "dino_plain": "dino_plus",
}


@pytest.mark.skipif(not golden_folder().is_dir(), reason="no golden folder beside the checkout; set SMIDGEN_GOLDEN")
@pytest.mark.parametrize("folder", GOLDEN)
def test_a_converted_file_reproduces_official_outputs(folder: str, tmp_path: Path) -> None:
    case, system = Case(golden_folder() / "baselines" / folder), GOLDEN[folder]
    if not case.folder.is_dir():
        pytest.skip(f"{case.id} is not in the golden folder")
    torch.save({"model": full_checkpoint(case, system)}, tmp_path / "official.pth")
    queries = {"num_queries": case.config["num_queries"]}
    heads = {"num_heads": case.config["num_heads"]}
    convert(tmp_path / "official.pth", system, tmp_path / "ours", backbone=BACKBONE, transformer=heads, **queries)
    with torch.no_grad():
        output = load(tmp_path / "ours").decode(pyramid(case))
    layers = [*output.auxiliary, output.final]
    case.compare("outputs_classes", torch.stack([layer.logits for layer in layers]))
    case.compare("outputs_coords", torch.stack([layer.boxes_cxcywh for layer in layers]))


@pytest.mark.parametrize(
    ("folder", "system"), [("e_dino_eval", "dino"), ("d_lsq_full_eval", "lsq_detr"), ("d2_dq_full_eval", "dq_detr")]
)
def test_a_converted_file_in_dinos_layout_reproduces_its_outputs(folder: str, system: str, tmp_path: Path) -> None:
    """From backbone maps on; the backbone's own tensors are random."""
    case = Case(golden_folder() / "lsq_detr" / folder)
    if not case.folder.is_dir():
        pytest.skip("no golden folder beside the checkout; set SMIDGEN_GOLDEN")
    channels = [8, 8, *case.config["backbone_channels"]][-4:]
    strides = (4, 8, 16, 32)[-len(case.config["backbone_channels"]) :]
    backbone = {"name": "resnet10t", "options": {"channels": channels, "stem_width": 4}}
    body = create_model("dino_r50", num_classes=1, backbone=backbone).backbone.body.state_dict()
    weights = case.weights | {f"backbone.0.body.{name}": tensor for name, tensor in body.items()}
    weights = {"label_enc.weight": torch.zeros(7, case.config["hidden_dim"])} | weights
    torch.save({"model": weights}, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", system, tmp_path / "ours", backbone=backbone, transformer=HEADS)
    model = load(tmp_path / "ours")
    maps = [case.inputs[f"feat{index}"] for index in range(len(strides))]
    with torch.no_grad():
        output = model.decode(model.neck(FeaturePyramid.of(maps, case.inputs["image_mask"], strides)))
    assert model.config.label_rows == len(weights["label_enc.weight"])
    case.compare("pred_logits", output.final.logits)
    case.compare("pred_boxes", output.final.boxes_cxcywh)


def test_a_converted_file_of_salience_detr_reproduces_its_outputs(tmp_path: Path) -> None:
    """With the buffers, aliases and class names that trained files carry."""
    case = Case(golden_folder() / "salience_detr" / "f_transformer_eval")
    if not case.folder.is_dir():
        pytest.skip("no golden folder beside the checkout; set SMIDGEN_GOLDEN")
    config = case.config
    sizes = {
        "width": config["embed_dim"],
        "num_heads": config["n_heads"],
        "feed_forward": config["d_ffn"],
        "encoder_layers": config["enc_layers"],
        "decoder_layers": config["dec_layers"],
    }
    counts = {name: config[name] for name in ("num_classes", "num_queries")} | {"num_levels": config["n_levels"]}
    ratios = {"level_ratios": config["level_filter_ratio"], "layer_ratios": config["layer_filter_ratio"]}
    rows = {"background_rows": config["max_num_embedding"], "level_limits_px": (64, 128, 256, 99999)}
    around = official("salience_detr", small_model("salience_detr", transformer=sizes, **counts, **ratios, **rows))
    weights = around | {f"transformer.{name}": tensor for name, tensor in case.weights.items()}
    weights |= {
        "transformer.level_filter_ratio": torch.tensor(config["level_filter_ratio"]),
        "transformer.layer_filter_ratio": torch.tensor(config["layer_filter_ratio"]),
        "_classes_": torch.tensor([97, -1, 98]),
        "position_embedding.dim_tx": torch.ones(16),
    }
    torch.save(weights, tmp_path / "official.pth")
    settings = {"densely_attended": config["topk_sa"], "transformer": {"num_heads": config["n_heads"]}}
    convert(tmp_path / "official.pth", "salience_detr", tmp_path / "ours", backbone=BACKBONE, **settings)
    canvas = torch.ones(len(config["image_sizes_hw"]), *config["padded_hw"], dtype=torch.bool)
    for image, (rows_shown, columns_shown) in enumerate(config["image_sizes_hw"]):
        canvas[image, :rows_shown, :columns_shown] = False
    maps = [case.inputs[f"feat{index}"] for index in range(config["n_levels"])]
    with torch.no_grad():
        output = load(tmp_path / "ours").decode(FeaturePyramid.of(maps, canvas, (8, 16, 32, 64)))
    layers = [*output.auxiliary, output.final]
    case.compare("decoder_logits", torch.stack([layer.logits for layer in layers]))
    case.compare("decoder_boxes", torch.stack([layer.boxes_cxcywh for layer in layers]))


def full_checkpoint(case: Case, system: str) -> dict[str, Tensor]:
    """The golden transformer with a random backbone, neck and label table around it."""
    config = case.config
    sizes = {
        "width": config["embed_dim"],
        "num_heads": config["num_heads"],
        "feed_forward": config["d_ffn"],
        "encoder_layers": config["enc_layers"],
        "decoder_layers": config["dec_layers"],
    }
    counts = {name: config[name] for name in ("num_classes", "num_queries", "num_levels")}
    around = official(system, small_model(system, transformer=sizes, **counts))
    outside = {name: tensor for name, tensor in around.items() if not name.startswith("transformer.")}
    return outside | {f"transformer.{name}": tensor for name, tensor in case.weights.items()}


def pyramid(case: Case) -> FeaturePyramid:
    levels = range(case.config["num_levels"])
    height, width = case.config["batch_hw"]
    canvas = torch.ones(len(case.config["valid_hw"]), height, width, dtype=torch.bool)
    for image, (rows, columns) in enumerate(case.config["valid_hw"]):
        canvas[image, :rows, :columns] = False
    maps = tuple(case.inputs[f"feat_{level}"] for level in levels)
    padding = tuple(case.inputs[f"mask_{level}"] for level in levels)
    return FeaturePyramid(maps, padding, tuple(8 * 2**level for level in levels), canvas)
