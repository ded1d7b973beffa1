"""Names of the DETR family's official checkpoints: fundamentalvision/Deformable-DETR, IDEA-Research/DINO and
xiuqhou/Relation-DETR.
"""

from __future__ import annotations

from dataclasses import replace

from smidgen.checkpoints.renaming import Layout

# Inside encoder and decoder layers all repositories use the names of Deformable DETR's code.
_LAYERS = (
    (r"^encoder\.layers\.(\d+)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"^encoder\.layers\.(\d+)\.attention_norm\.", r"transformer.encoder.layers.\1.norm1."),
    (r"^encoder\.layers\.(\d+)\.feed_forward_norm\.", r"transformer.encoder.layers.\1.norm2."),
    (r"^encoder\.layers\.(\d+)\.feed_forward\.", r"transformer.encoder.layers.\1."),
    (r"^decoder\.layers\.(\d+)\.self_attention\.", r"transformer.decoder.layers.\1.self_attn."),
    (r"^decoder\.layers\.(\d+)\.self_attention_norm\.", r"transformer.decoder.layers.\1.norm2."),
    (r"^decoder\.layers\.(\d+)\.cross_attention\.", r"transformer.decoder.layers.\1.cross_attn."),
    (r"^decoder\.layers\.(\d+)\.cross_attention_norm\.", r"transformer.decoder.layers.\1.norm1."),
    (r"^decoder\.layers\.(\d+)\.feed_forward_norm\.", r"transformer.decoder.layers.\1.norm3."),
    (r"^decoder\.layers\.(\d+)\.feed_forward\.", r"transformer.decoder.layers.\1."),
    (r"^proposals\.projection\.", r"transformer.enc_output."),
    (r"^proposals\.norm\.", r"transformer.enc_output_norm."),
    (r"^content\.table\.", r"transformer.tgt_embed."),
    (r"^decoder\.refinement\.norm\.", r"transformer.decoder.norm."),
)

RELATION_DETR = Layout(
    source="Relation-DETR repository",
    rules=(
        *_LAYERS,
        (r"^backbone\.body\.", r"backbone."),
        (r"^neck\.levels\.", r"neck.convs."),
        (r"^flatten\.level_embed$", r"transformer.level_embeds"),
        (r"^proposals\.class_head\.", r"transformer.encoder_class_head."),
        (r"^proposals\.box_head\.", r"transformer.encoder_bbox_head."),
        (r"^selection\.logits\.", r"transformer.refpoint_embed."),
        (r"^content\.projection\.", r"transformer.pos_trans."),
        (r"^content\.norm\.", r"transformer.pos_trans_norm."),
        (r"^denoising\.label_encoder\.", r"denoising_generator.label_encoder."),
        (r"^decoder\.query_position\.projection\.layers\.", r"transformer.decoder.ref_point_head.layers."),
        (r"^decoder\.query_position\.projection\.", r"transformer.decoder.ref_point_head.0."),
        (r"^decoder\.query_position\.norm\.", r"transformer.decoder.ref_point_head.1."),
        (r"^decoder\.query_position\.scale\.", r"transformer.decoder.query_scale."),
        (r"^decoder\.refinement\.class_heads\.", r"transformer.decoder.class_head."),
        (r"^decoder\.refinement\.box_heads\.", r"transformer.decoder.bbox_head."),
        (r"^decoder\.relation\.projection\.", r"transformer.decoder.position_relation_embedding.pos_proj.0."),
    ),
    has=("transformer.level_embeds",),
    ignored=(r"^_classes_$", r"^position_embedding\.", r"num_batches_tracked$"),
)

# The two-stage Deformable DETR of that repository carries a relation that its decoder never applies.
RELATION_DETR_UNUSED_RELATION = replace(
    RELATION_DETR,
    has=(*RELATION_DETR.has, "transformer.pos_trans."),
    ignored=(*RELATION_DETR.ignored, r"\.position_relation_embedding\."),
)
RELATION_DETR_DAB = replace(
    RELATION_DETR, has=(*RELATION_DETR.has, "transformer.decoder.query_scale.", "transformer.enc_output.")
)
RELATION_DETR_DN = replace(
    RELATION_DETR, has=(*RELATION_DETR.has, "transformer.decoder.query_scale.", "transformer.refpoint_embed.")
)
RELATION_DETR_DINO = replace(
    RELATION_DETR,
    has=(*RELATION_DETR.has, "transformer.tgt_embed.", "transformer.enc_output."),
    lacks=("transformer.decoder.query_scale.", "transformer.enc_mask_predictor."),
)

IDEA_DINO = Layout(
    source="DINO's original code",
    rules=(
        *_LAYERS,
        (r"^backbone\.body\.", r"backbone.0.body."),
        (r"^neck\.levels\.", r"input_proj."),
        (r"^flatten\.level_embed$", r"transformer.level_embed"),
        (r"^proposals\.class_head\.", r"transformer.enc_out_class_embed."),
        (r"^proposals\.box_head\.", r"transformer.enc_out_bbox_embed."),
        (r"^denoising\.label_encoder\.", r"label_enc."),
        (r"^decoder\.query_position\.projection\.", r"transformer.decoder.ref_point_head."),
        (r"^decoder\.refinement\.class_heads\.", r"class_embed."),
        (r"^decoder\.refinement\.box_heads\.", r"bbox_embed."),
    ),
    has=("transformer.level_embed", "transformer.tgt_embed.", "label_enc."),
    ignored=(r"num_batches_tracked$",),
    aliases=(
        (r"^(class_embed|bbox_embed)\.0\.", r"\1.{}."),
        (r"^(class_embed|bbox_embed)\.0\.", r"transformer.decoder.\1.{}."),
    ),
)

ORIGINAL_DEFORMABLE_DETR = Layout(
    source="Deformable DETR's original code",
    rules=(
        *_LAYERS,
        (r"^backbone\.body\.", r"backbone.0.body."),
        (r"^neck\.levels\.", r"input_proj."),
        (r"^flatten\.level_embed$", r"transformer.level_embed"),
        (r"^selection\.table\.", r"query_embed."),
        (r"^selection\.reference\.", r"transformer.reference_points."),
        (r"^decoder\.refinement\.class_head\.", r"class_embed.0."),
        (r"^decoder\.refinement\.box_head\.", r"bbox_embed.0."),
    ),
    has=("transformer.level_embed", "query_embed.", "transformer.reference_points."),
    lacks=("transformer.decoder.bbox_embed.",),
    ignored=(r"num_batches_tracked$",),
    aliases=((r"^(class_embed|bbox_embed)\.0\.", r"\1.{}."),),
)

ORIGINAL_DEFORMABLE_DETR_REFINE = replace(
    ORIGINAL_DEFORMABLE_DETR,
    rules=(
        *ORIGINAL_DEFORMABLE_DETR.rules,
        (r"^decoder\.refinement\.class_heads\.", r"class_embed."),
        (r"^decoder\.refinement\.box_heads\.", r"bbox_embed."),
    ),
    has=(*ORIGINAL_DEFORMABLE_DETR.has, "transformer.decoder.bbox_embed."),
    lacks=(),
    aliases=((r"^bbox_embed\.", r"transformer.decoder.bbox_embed."),),
)
