"""Runners for the Relation-DETR repository's baselines, and for DINO's original code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from golden import Case
from torch import Tensor, nn

from smidgen.boxes import cxcywh_to_xyxy, inverse_sigmoid
from smidgen.checkpoints.detr_layouts import IDEA_DINO, RELATION_DETR, RELATION_DETR_UNUSED_RELATION
from smidgen.checkpoints.renaming import Layout, from_official
from smidgen.decoder.readout import TopScoring
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.models import create_model
from smidgen.models.detr import DETR, as_queries
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.denoising import ContrastiveDenoising, DenoisingNoise
from smidgen.queries.proposals import base_boxes
from smidgen.structures import FeaturePyramid, Queries, QueryGroup, Target

SYSTEMS = {
    "deformable": "deformable_detr_nano",
    "dab": "dab_deformable_detr_nano",
    "dn": "dn_deformable_detr_nano",
    "dino": "dino_plus_nano",
}


def run_baseline(case: Case) -> None:
    config = case.config
    relation = {} if config["model"] == "deformable" else {"relation": config["relation_enabled"]}
    model = _model(
        SYSTEMS[config["model"]], config, config["embed_dim"], config["num_heads"], config["d_ffn"], **relation
    )
    layout = RELATION_DETR_UNUSED_RELATION if config["model"] == "deformable" else RELATION_DETR
    _load(model, layout, {f"transformer.{name}": tensor for name, tensor in case.weights.items()})
    pyramid = _pyramid(case)
    with torch.no_grad():
        memory = model.encoder(model.flatten(pyramid), pyramid)
        proposals = None if model.proposals is None else model.proposals(memory.proposal_tokens)
        places = model.selection(memory, proposals, model.budget(memory))
        queries = as_queries(places, model.content(memory, places))
        if "noised_label_query" in case.inputs:
            queries = Queries.join([_denoising_queries(case), queries])
            assert torch.equal(queries.attention_mask(), case.inputs["attn_mask"])
        layers = model.decoder(queries, memory.tokens)
    case.compare("memory", memory.tokens.content)
    case.compare("decoder_query_in", queries.content)
    case.compare("decoder_ref_in", queries.reference)
    if proposals is not None:
        case.compare("topk_index", places.token_index)
        assert places.predictions is not None
        case.compare("enc_outputs_class", places.predictions.logits)
        case.compare("enc_outputs_coord", places.predictions.boxes_cxcywh)
    case.compare("outputs_classes", torch.stack([layer.logits for layer in layers]))
    case.compare("outputs_coords", torch.stack([layer.boxes_cxcywh for layer in layers]))
    case.assert_all_compared()


def run_dino_eval(case: Case) -> None:
    config = case.config
    model = _model("dino_nano", config, config["hidden_dim"], config["nheads"], config["dim_feedforward"])
    model.flatten.position = SinePosition(config["hidden_dim"], float(config["pe_temperature"][0]))
    model.neck = ChannelMapper(config["backbone_channels"], config["hidden_dim"], config["num_feature_levels"])
    model.readout = TopScoring(config["post_num_select"], clip=False)
    layout = replace(IDEA_DINO, ignored=(r"^label_enc\.",), num_aliases=config["dec_layers"])
    _load(model, layout, case.weights, outside=("backbone.", "denoising."))
    maps = [case.inputs[f"feat{index}"] for index in range(len(config["backbone_channels"]))]
    canvas = case.inputs["image_mask"]
    strides = [round(canvas.shape[-1] / level.shape[-1]) for level in maps]
    with torch.no_grad():
        pyramid = model.neck(FeaturePyramid.of(maps, canvas, strides))
        memory = model.encoder(model.flatten(pyramid), pyramid)
        output = model.decode(pyramid)
    assert output.proposals is not None and output.token_index is not None
    for name in case.outputs:
        if name.startswith("src"):
            case.compare(name, pyramid.levels[int(name.removeprefix("src"))])
    case.compare("memory_encoder", memory.tokens.content)
    case.compare("pos_flatten", memory.tokens.position)
    case.compare("valid_ratios", memory.tokens.valid_share)
    case.compare("spatial_shapes", torch.tensor(memory.tokens.shapes), exact=True)
    case.compare("topk_index", output.token_index, exact=True)
    base = base_boxes(memory.proposal_tokens)[0].gather(1, output.token_index[..., None].expand(-1, -1, 4))
    case.compare("init_box_proposal", base)
    case.compare("interm_logits", output.proposals.logits)
    case.compare("interm_boxes", output.proposals.boxes_cxcywh)
    case.compare("pred_logits", output.final.logits)
    case.compare("pred_boxes", output.final.boxes_cxcywh)
    for index, layer in enumerate(output.auxiliary):
        case.compare(f"aux{index}_logits", layer.logits)
        case.compare(f"aux{index}_boxes", layer.boxes_cxcywh)
    original_hw = [(int(height), int(width)) for height, width in case.inputs["target_sizes"]]
    detections = model.readout(output, original_hw, model.classes)
    case.compare("post_scores", torch.stack([found.scores for found in detections]))
    case.compare("post_labels", torch.stack([found.labels for found in detections]), exact=True)
    case.compare("post_boxes", torch.stack([found.boxes_xyxy for found in detections]))
    # States and references between the layers, which no stage returns; the layers' answers depend on all of them.
    case.assert_all_compared(besides=frozenset({"hs", "references", "query_ref_unsigmoid"}))


def run_cdn(case: Case) -> None:
    table = case.inputs["label_enc_weight"]
    for name, config in case.config["sets"].items():
        denoising = ContrastiveDenoising(
            config["num_classes"],
            table.shape[1],
            num_queries=config["dn_number"],
            label_noise=config["label_noise_ratio"],
            box_noise=config["box_noise_scale"],
            eps=1e-3,
            table_size=len(table),
            groups="official",
            max_objects=None,
            mask_free_slots=False,
        )
        denoising.label_encoder.weight.data.copy_(table)
        recorded = {
            key.removeprefix(f"{name}/"): value for key, value in case.inputs.items() if key.startswith(f"{name}/")
        }
        noise = DenoisingNoise.recorded(
            recorded["rand_label_flip_uniform"],
            recorded["rand_new_labels"],
            recorded["rand_box_sign01"],
            recorded["rand_box_uniform"],
            config["label_noise_ratio"] / 2,
        )
        denoised = denoising(_targets(recorded, len(config["counts"])), noise)
        matching = torch.zeros(len(config["counts"]), config["num_queries"], table.shape[1])
        queries = Queries(matching, matching[..., :4], groups=(QueryGroup("matching", config["num_queries"]),))
        case.compare(f"{name}/query_label", denoised.content.detach())
        case.compare(f"{name}/query_box_unsigmoid", inverse_sigmoid(denoised.reference.double(), 1e-5))
        mask = Queries.join([denoised, queries]).attention_mask()
        assert mask is not None
        case.compare(f"{name}/attn_mask", mask, exact=True)
    case.assert_all_compared()


def _targets(recorded: dict[str, Tensor], count: int) -> list[Target]:
    """Boxes of the case are shares of the image; in float64 the way through corners costs no precision."""
    targets = []
    for index in range(count):
        boxes = cxcywh_to_xyxy(recorded[f"target{index}_boxes"].double())
        targets.append(Target.of(boxes, recorded[f"target{index}_labels"], (1, 1)))
    return targets


def _model(name: str, config: dict[str, Any], width: int, heads: int, feed_forward: int, **settings: Any) -> DETR:
    num_levels = config.get("num_levels") or config["num_feature_levels"]
    model = create_model(
        name,
        num_classes=config["num_classes"],
        num_queries=config["num_queries"],
        num_levels=num_levels,
        backbone={"strides": [8, 16, 32][:num_levels]},
        transformer={
            "width": width,
            "num_heads": heads,
            "num_points": config.get("num_points") or config["enc_n_points"],
            "feed_forward": feed_forward,
            "encoder_layers": config["enc_layers"],
            "decoder_layers": config["dec_layers"],
        },
        parity=True,
        **settings,
    )
    assert isinstance(model, DETR)
    return model.eval()


def _load(
    model: nn.Module,
    layout: Layout,
    weights: dict[str, Tensor],
    outside: tuple[str, ...] = ("backbone.", "neck.", "denoising."),
) -> None:
    """Load what the golden case holds of the model; `outside` is what it leaves out."""

    class Transformer(nn.Module):
        """The model's state dict without what the golden case leaves out."""

        def state_dict(self) -> dict[str, Tensor]:  # type: ignore[override]
            return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(outside)}

    model.load_state_dict(from_official(layout, Transformer(), weights), strict=False)


def _pyramid(case: Case) -> FeaturePyramid:
    levels = [case.inputs[f"feat_{index}"] for index in range(case.config["num_levels"])]
    padding = tuple(case.inputs[f"mask_{index}"] for index in range(case.config["num_levels"]))
    height, width = case.config["batch_hw"]
    canvas = torch.ones(len(levels[0]), height, width, dtype=torch.bool)
    for image, (rows, columns) in enumerate(case.config["valid_hw"]):
        canvas[image, :rows, :columns] = False
    strides = tuple(8 * 2**index for index in range(len(levels)))
    return FeaturePyramid(tuple(levels), padding, strides, canvas)


def _denoising_queries(case: Case) -> Queries:
    group = QueryGroup("denoising", case.config["dn_max_gt_x2"], case.config["dn_groups"])
    return Queries(case.inputs["noised_label_query"], case.inputs["noised_box_query"].sigmoid(), groups=(group,))
