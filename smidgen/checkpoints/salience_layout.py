"""Names of Salience DETR's official checkpoints (xiuqhou/Salience-DETR)."""

from __future__ import annotations

from dataclasses import replace

from smidgen.checkpoints.detr_layouts import RELATION_DETR

SALIENCE_DETR = replace(
    RELATION_DETR,
    source="Salience DETR's original code",
    rules=(
        (r"^encoder\.encoder\.salience\.modulation$", r"transformer.alpha"),
        (r"^encoder\.encoder\.salience\.predictor\.norm\.", r"transformer.enc_mask_predictor.layer1.0."),
        (r"^encoder\.encoder\.salience\.predictor\.expand\.", r"transformer.enc_mask_predictor.layer1.1."),
        (r"^encoder\.encoder\.salience\.predictor\.layers\.0\.", r"transformer.enc_mask_predictor.layer2.0."),
        (r"^encoder\.encoder\.salience\.predictor\.layers\.1\.", r"transformer.enc_mask_predictor.layer2.2."),
        (r"^encoder\.encoder\.salience\.predictor\.layers\.2\.", r"transformer.enc_mask_predictor.layer2.4."),
        (r"^encoder\.encoder\.among_best\.(\d+)\.attention\.", r"transformer.encoder.layers.\1.pre_attention."),
        (r"^encoder\.encoder\.among_best\.(\d+)\.norm\.", r"transformer.encoder.layers.\1.pre_norm."),
        (r"^encoder\.encoder\.background\.row\.", r"transformer.encoder.background_embedding.row_embed."),
        (r"^encoder\.encoder\.background\.column\.", r"transformer.encoder.background_embedding.col_embed."),
        (r"^encoder\.encoder\.", r"encoder."),
        *RELATION_DETR.rules,
    ),
    has=("transformer.alpha", "transformer.enc_mask_predictor."),
    # The ratios are configuration here: a file never overrides them silently.
    ignored=(r"^_classes_$", r"^position_embedding\.", r"_filter_ratio$", r"^backbone\..*num_batches_tracked$"),
    aliases=((r"^transformer\.encoder_class_head\.", r"transformer.encoder.enhance_mcsp."),),
    optional=(r"num_batches_tracked$",),
)
