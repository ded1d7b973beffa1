"""Runners for the Relation-DETR repository's baselines, and for DINO's original code."""

from __future__ import annotations

from typing import Any

import torch
from golden import Case
from torch import Tensor, nn

from smidgen.checkpoints.detr_layouts import RELATION_DETR, RELATION_DETR_UNUSED_RELATION
from smidgen.checkpoints.renaming import from_official
from smidgen.models import create_model
from smidgen.models.detr import DETR, as_queries
from smidgen.structures import FeaturePyramid, Queries, QueryGroup

SYSTEMS = {
    "deformable": "deformable_detr_nano",
    "dab": "dab_deformable_detr_nano",
    "dn": "dn_deformable_detr_nano",
    "dino": "dino_plus_nano",
}
# The goldens hold the transformer only.
OUTSIDE = ("backbone.", "neck.", "denoising.")


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


def run_dino_eval(case: Case) -> None:
    raise NotImplementedError


def run_cdn(case: Case) -> None:
    raise NotImplementedError


def _model(name: str, config: dict[str, Any], width: int, heads: int, feed_forward: int, **settings: Any) -> DETR:
    model = create_model(
        name,
        num_classes=config["num_classes"],
        num_queries=config["num_queries"],
        num_levels=config.get("num_levels") or config["num_feature_levels"],
        transformer={
            "width": width,
            "num_heads": heads,
            "feed_forward": feed_forward,
            "encoder_layers": config["enc_layers"],
            "decoder_layers": config["dec_layers"],
        },
        parity=True,
        **settings,
    )
    assert isinstance(model, DETR)
    return model.eval()


def _load(model: nn.Module, layout: Any, weights: dict[str, Tensor]) -> None:
    class Transformer(nn.Module):
        """The model's state dict without what the golden case leaves out."""

        def state_dict(self) -> dict[str, Tensor]:  # type: ignore[override]
            return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(OUTSIDE)}

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
