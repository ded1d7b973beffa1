"""Names of the checkpoints of detectors that count first: DQ-DETR and LSQ-DETR, on DINO's original code."""

from __future__ import annotations

from dataclasses import replace

from smidgen.checkpoints.detr_layouts import IDEA_DINO
from smidgen.checkpoints.renaming import Layout

# The encoder stands inside the staged encoder here, and its only stage is the counting.
_STAGE = r"^encoder\.stages\.0\."

DQ_DETR = replace(
    IDEA_DINO,
    source="DQ-DETR's official code",
    rules=(
        (r"^encoder\.encoder\.", r"encoder."),
        (_STAGE + r"counter\.entry\.", r"transformer.CCM.conv1."),
        # The official module also counts the activations between its convolutions.
        *((_STAGE + rf"counter\.convolutions\.{i}\.", rf"transformer.CCM.ccm.{2 * i}.") for i in range(6)),
        (_STAGE + r"counter\.classifier\.", r"transformer.CCM.linear."),
        *(
            (_STAGE + rf"guides\.{i}\.{ours}\.", rf"transformer.multiscale.conv{i + 1}.{official}.")
            for i in range(4)
            for ours, official in (("convolution", "conv"), ("norm", "gn"))
        ),
        (_STAGE + r"spatial_gates\.convolution\.", r"transformer.CGFE.SpatialGate.spatial.conv."),
        (_STAGE + r"spatial_gates\.norm\.", r"transformer.CGFE.SpatialGate.spatial.bn."),
        (_STAGE + r"channel_gate\.mlp\.layers\.0\.", r"transformer.CGFE.ChannelGate.mlp.1."),
        (_STAGE + r"channel_gate\.mlp\.layers\.1\.", r"transformer.CGFE.ChannelGate.mlp.3."),
        *IDEA_DINO.rules,
    ),
    has=("transformer.level_embed", "transformer.CCM.", "transformer.CGFE.ChannelGate.", "label_enc."),
    ignored=(r"^backbone\..*num_batches_tracked$",),
    optional=(r"num_batches_tracked$",),
    tolerates_extras=True,
)

# A file of DQ-DETR fits LSQ-DETR, which was made by leaving its channel gate out.
LSQ_DETR: Layout = replace(
    DQ_DETR,
    source="LSQ-DETR's official code",
    has=("transformer.level_embed", "transformer.CCM.", "transformer.CGFE.", "label_enc."),
    ignored=(*DQ_DETR.ignored, r"^transformer\.CGFE\.ChannelGate\."),
)
