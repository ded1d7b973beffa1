"""Names of `DeformableDetrForObjectDetection` of the transformers library, in one stage.

Its projections of queries, keys and values in self-attention are three tensors each; ours stand in one, in this order.
Names are those of the files that the library writes; from version 5 on it calls some tensors otherwise in memory.
Its two-stage form cannot be converted: content and position of a query share one layer norm there, as in the original
code, while our `deformable_detr` norms them apart, as the Relation-DETR repository does.
"""

from __future__ import annotations

from dataclasses import replace

from smidgen.checkpoints.renaming import Layout

_RULES = (
    (r"^backbone\.body\.", r"model.backbone.conv_encoder.model."),
    (r"^neck\.levels\.", r"model.input_proj."),
    (r"^flatten\.level_embed$", r"model.level_embed"),
    (r"^selection\.table\.", r"model.query_position_embeddings."),
    (r"^selection\.reference\.", r"model.reference_points."),
    (r"^decoder\.refinement\.class_heads?\.", r"class_embed."),
    (r"^decoder\.refinement\.box_heads?\.", r"bbox_embed."),
    (r"^(encoder|decoder)\.layers\.", r"model.\1.layers."),
    (r"\.attention\.", r".self_attn."),
    (r"\.attention_norm\.", r".self_attn_layer_norm."),
    (r"\.self_attention\.", r".self_attn."),
    (r"\.self_attention_norm\.", r".self_attn_layer_norm."),
    (r"\.cross_attention\.", r".encoder_attn."),
    (r"\.cross_attention_norm\.", r".encoder_attn_layer_norm."),
    (r"\.feed_forward_norm\.", r".final_layer_norm."),
    (r"\.feed_forward\.linear(\d)\.", r".fc\1."),
)

TRANSFORMERS_DEFORMABLE_DETR_REFINE = Layout(
    source="transformers",
    rules=_RULES,
    pieces=((r"\.in_proj_(weight|bias)$", (r".q_proj.\1", r".k_proj.\1", r".v_proj.\1")),),
    has=("model.query_position_embeddings.", "model.reference_points."),
    ignored=(r"num_batches_tracked$",),
    aliases=((r"^bbox_embed\.", r"model.decoder.bbox_embed."),),
    # Where the library holds all class heads for one, it stores one.
    stand_ins=((r"^class_embed\.\d+\.", r"class_embed.0."),),
    spellings=(
        (r"^model\.backbone\.model\.", r"model.backbone.conv_encoder.model."),
        (r"\.self_attn\.o_proj\.", r".self_attn.out_proj."),
        (r"\.mlp\.(fc\d)\.", r".\1."),
    ),
    distinct=r"^(model\.decoder\.)?bbox_embed\.\d+\.layers\.0\.weight$",
)

TRANSFORMERS_DEFORMABLE_DETR = replace(
    TRANSFORMERS_DEFORMABLE_DETR_REFINE,
    rules=(*_RULES, (r"^(class_embed|bbox_embed)\.(?!\d)", r"\1.0.")),
    lacks=("model.decoder.bbox_embed.",),
    aliases=((r"^(class_embed|bbox_embed)\.0\.", r"\1.{}."),),
    stand_ins=(),
    distinct=None,
)
