"""Cross-DINO: DINO that decodes over deep and shallow features cross-coded, with size in its class loss.

"Cross-DINO" (its backbone, CLAP-Strip-MLP, cross coding twice module and Boost loss); the authors published no code of
the detector, so that everything here follows the paper, its parameter counts and the authors' backbone. Against
models/dino.py: cross coding behind the encoder, Boost loss in place of focal loss on decoder, proposals and denoising,
and for the largest gain the Strip-MLP backbone. Matching is DINO's: size has no part in its cost.

parity=True switches what it does in models/dino.py; cross coding and Boost loss have no official code to differ from.

Open in the paper, with the choice made here (and its option):
    proposals      from the encoder's tokens, on which the paper's class loss acts (two_stage_source="cross")
    second gate    product of two gates, MLPs twice as wide as the tokens: 659,456 parameters, which the published
                   47M -> 48M, 48M -> 49M and 44M -> 45M ask for (gate)
    response norm  first in the MLP and over all levels (response_norm, norm_per_level)
    denoising      Boost loss, too, as it is DINO's one class loss
    predicted size without gradient; the modulating factor with (detach_modulator)
    object size    as equation 5 has it, although it makes large objects heavier where beta is 1; see
                   losses/category_size.py (gt_size_weight, positive_renorm; the nano size, which starts from random
                   weights, has the latter on, since equation 5 alone hardly teaches it)
    box noise      0.4, of the authors' configurations; DINO's paper text has 1.0
    canvas         padded to a multiple of 32: else strided convolutions drop the last columns
    Swin           with layer norms behind its maps, as in DINO's code; timm has none (output_norms)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.features.output_norms import OutputNorms
from smidgen.losses import CategorySizeClassification, SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, deformable_encoder, set_loss
from smidgen.nn.initialize import box_head, class_head
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import LearnedContent
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.cross_coding import CodedOnce, CrossCoding, CrossGated, JointGate, ProductGate, SumOfMLPs
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.staged_encoder import StagedEncoder


@dataclass(frozen=True, kw_only=True)
class CrossDINOConfig:
    """Defaults: the paper's R50 on COCO (50.1 AP after 12 epochs, its table I).

    output_norms: layer norms behind the backbone's maps. coding: "twice" is the paper's module, "once" and "mlp_only"
    are its ablations (table VIII), "none" leaves it out. gate, response_norm, norm_per_level, two_stage_source: see
    smidgen/tokens/cross_coding.py. beta: how much size counts in the class loss, by data set: 1 on COCO and
    WiderPerson, 0.1 on VisDrone, on SODA-D and on COCO with Swin-T, 0.05 on AI-TOD. gt_size_weight, positive_renorm,
    detach_modulator: see smidgen/losses/category_size.py.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    output_norms: bool = False
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    coding: Literal["twice", "once", "mlp_only", "none"] = "twice"
    gate: Literal["product", "product_of_logits", "joint"] = "product"
    response_norm: Literal["before", "between"] = "before"
    norm_per_level: bool = False
    two_stage_source: Literal["encoder", "cross"] = "encoder"
    num_queries: int = 900
    temperature: float = 20.0
    denoising_queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 0.4
    num_detections: int = 300
    beta: float = 1.0
    gt_size_weight: bool = True
    positive_renorm: bool = False
    detach_modulator: bool = False
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(pad_multiple=32))
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.beta <= 1:
            raise ValueError(f"expected model.beta in (0, 1], since 0 silences every positive, got {self.beta}")


def cross_dino(config: CrossDINOConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    stages = {
        "preprocessing": config.preprocessing,
        "backbone": OutputNorms(body) if config.output_norms else body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, SinePosition(sizes.width, config.temperature)),
        "encoder": StagedEncoder(deformable_encoder(sizes, config.num_levels), _cross_coding(config)),
        "proposals": ProposalHead(sizes.width, config.num_classes),
        "budget": FixedBudget(config.num_queries),
        "selection": TopK(skip_invalid=not config.parity),
        "content": LearnedContent(config.num_queries, sizes.width),
        "denoising": contrastive_denoising(config, config.num_classes + 1, groups="official"),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, in_canvas=config.parity),
            LookForwardTwice([class_head(sizes.width, config.num_classes)], [box_head(sizes.width)], sizes.width, eps),
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }
    return DETR(**with_parts(stages, config))


def _cross_coding(config: CrossDINOConfig) -> list[CrossCoding]:
    width, norm = config.transformer.width, config.response_norm
    mixings = {
        "twice": lambda: CrossGated(width, _gate(config)),
        "once": lambda: CodedOnce(width),
        "mlp_only": lambda: SumOfMLPs(width, norm),
    }
    if config.coding == "none":
        return []
    return [CrossCoding(mixings[config.coding](), config.two_stage_source, config.norm_per_level)]


def _gate(config: CrossDINOConfig) -> nn.Module:
    """MLPs twice as wide as the tokens."""
    width, norm = config.transformer.width, config.response_norm
    if config.gate == "joint":
        return JointGate(width, 2 * width, norm)
    return ProductGate(width, 2 * width, norm, of="sigmoids" if config.gate == "product" else "logits")


def cross_dino_criterion(config: CrossDINOConfig) -> SetLoss:
    """Boost, L1 and GIoU losses on final, auxiliary, proposal and denoising outputs."""
    boost = CategorySizeClassification(
        beta=config.beta,
        gt_size_weight=config.gt_size_weight,
        positive_renorm=config.positive_renorm,
        detach_modulator=config.detach_modulator,
    )
    return set_loss(config.loss, giou_eps=1e-6 if config.parity else 0.0, classification=boost)
