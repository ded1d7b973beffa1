"""Names of Salience DETR's official checkpoints (xiuqhou/Salience-DETR)."""

from __future__ import annotations

from dataclasses import replace

from smidgen.checkpoints.detr_layouts import RELATION_DETR

_FUSION = (
    (r"^(encoder\.stages\.0\..*)\.convolution\.", r"\1.0."),
    (r"^(encoder\.stages\.0\..*)\.norm\.", r"\1.1."),
    (r"^encoder\.stages\.0\.lateral\.", r"transformer.neck.lateral_convs."),
    (r"^encoder\.stages\.0\.top_down\.", r"transformer.neck.layer_blocks."),
    (r"^encoder\.stages\.0\.downsample\.", r"transformer.neck.downsample_blocks."),
    (r"^encoder\.stages\.0\.bottom_up\.", r"transformer.neck.pan_blocks."),
    (r"(layer_blocks|pan_blocks)\.(\d+)\.entry\.", r"\1.\2.conv1."),
    (r"(layer_blocks|pan_blocks)\.(\d+)\.shortcut\.", r"\1.\2.conv2."),
    (r"(layer_blocks|pan_blocks)\.(\d+)\.blocks\.", r"\1.\2.bottlenecks."),
    (r"(\.bottlenecks\.\d+)\.branches\.square\.", r"\1.conv1."),
    (r"(\.bottlenecks\.\d+)\.branches\.pointwise\.", r"\1.conv2."),
    (r"(\.bottlenecks\.\d+)\.gate\.pooling\.", r"\1.se_module.conv_mask."),
    (r"(\.bottlenecks\.\d+)\.gate\.squeeze\.", r"\1.se_module.se_module.0."),
    (r"(\.bottlenecks\.\d+)\.gate\.expand\.", r"\1.se_module.se_module.2."),
)

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
        *_FUSION,
        *RELATION_DETR.rules,
    ),
    has=("transformer.alpha", "transformer.enc_mask_predictor."),
    # The ratios are configuration here: read when a file is converted, and said there.
    settings=(
        ("level_ratios", "transformer.level_filter_ratio"),
        ("layer_ratios", "transformer.layer_filter_ratio"),
    ),
    ignored=(r"^_classes_$", r"^position_embedding\.", r"_filter_ratio$", r"^backbone\..*num_batches_tracked$"),
    aliases=((r"^transformer\.encoder_class_head\.", r"transformer.encoder.enhance_mcsp."),),
    optional=(r"num_batches_tracked$",),
    tolerates_extras=True,
)
