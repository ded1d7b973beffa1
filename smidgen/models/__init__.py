"""The systems, each a short composition of parts. CATALOGUE names them; nothing heavy is imported until one is
built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

if TYPE_CHECKING:
    from torch import nn

    from smidgen.structures import Classes

__all__ = [
    "CATALOGUE",
    "PARTS",
    "Entry",
    "configure",
    "create_criterion",
    "create_model",
    "list_models",
    "register_model",
    "register_part",
    "trainable_from_scratch",
]


@dataclass(frozen=True)
class Entry:
    """How a catalogue name is built.

    config, model, criterion: "module:attribute", or the object itself, of the configuration dataclass, of the builder
    `(config, pretrained) -> model` and of the builder `(config) -> criterion`. settings: what this size changes in the
    configuration (nested mappings for nested dataclasses). about: one line for `smidgen models`.
    """

    config: str | type
    model: str | Callable[..., Any]
    criterion: str | Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


def _merged(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in overrides.items():
        value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


# Small enough to train on two CPU cores, with group norm instead of pretrained weights.
NANO: dict[str, Any] = {
    "backbone": {
        "name": "resnet10t",
        "norm": "group",
        "options": {"channels": [32, 64, 128, 256], "stem_width": 16, "num_groups": 4},
    },
    "num_levels": 3,
    "num_queries": 150,
    "transformer": {
        "width": 128,
        "num_heads": 4,
        "feed_forward": 256,
        "encoder_layers": 2,
        "decoder_layers": 3,
    },
    "preprocessing": {"short_side": 384, "long_side": 640},
}


# Systems that count objects have a budget for each class of counts in place of one number of queries.
COUNTING_NANO: dict[str, Any] = {key: value for key, value in NANO.items() if key != "num_queries"} | {
    "backbone": NANO["backbone"] | {"strides": [8, 16, 32]},
    "counting": "light",
    "count_thresholds": [10, 25, 50],
    "budgets": [100, 150, 200, 250],
}

# Half as wide as the paper's, with patterns for the nano size's 150 queries.
PAQ_NANO: dict[str, Any] = {"patterns": {"number": 50, "rank": 32, "extractor_width": 64}}

NANO_QUOTAS = {100: [0.6, 0.4], 150: [0.85, 0.15], 200: [0.9, 0.1], 250: [0.95, 0.05]}

# The dense family: every level from stride 4 on, towers a quarter as wide as the papers'.
DENSE_NANO: dict[str, Any] = {
    "backbone": NANO["backbone"] | {"strides": [4, 8, 16, 32]},
    "width": 64,
    "preprocessing": NANO["preprocessing"],
}

# Towers and a second stage to match.
TOWERS_NANO: dict[str, Any] = {"num_levels": 6, "head_layers": 3}
TWO_STAGE_NANO: dict[str, Any] = {"region_width": 256, "num_regions": 300, "region_samples": 128}

# Backbones of the other sizes, as the papers use them: the first stage is frozen.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "swin_t": (
        "Swin-T",
        {"name": "swin_tiny_patch4_window7_224.ms_in1k", "frozen_stages": 1, "options": {"strict_img_size": False}},
    ),
    "strip_t": ("Strip-MLP-T", {"name": "strip_mlp_t", "frozen_stages": 0}),
    "swin_l": (
        "Swin-L",
        {"name": "swin_large_patch4_window7_224.ms_in22k", "frozen_stages": 1, "options": {"strict_img_size": False}},
    ),
    "convnext_l": ("ConvNeXt-L", {"name": "convnext_large.fb_in1k", "frozen_stages": 1}),
    "focalnet_l": ("FocalNet-L", {"name": "focalnet_large_fl4.ms_in22k", "frozen_stages": 1}),
    "mobilenetv2": ("MobileNetV2", {"name": "mobilenetv2_100.ra_in1k"}),
    "shufflenetv2": ("ShuffleNetV2", {"name": "shufflenet_v2_x1_0"}),
}


def _sizes(
    module: str,
    builder: str,
    config: str,
    about: str,
    *,
    nano: Mapping[str, Any] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    **variant: Any,
) -> dict[str, Entry]:
    """Size suffix -> entry; `variant` holds what the variant changes at every size, `nano` what it changes there only.

    others: keys of BACKBONES that exist as sizes, too, and what is changed there.
    """
    path = f"smidgen.models.{module}"

    def entry(size: str, settings: Mapping[str, Any]) -> Entry:
        return Entry(
            f"{path}:{config}", f"{path}:{builder}", f"{path}:{builder}_criterion", settings, f"{about}, {size}"
        )

    small = _merged(_merged(NANO, {**variant, "num_levels": variant.get("num_levels", 4) - 1}), nano or {})
    sizes = {"_r50": entry("ResNet-50", variant), "_nano": entry("for two CPU cores", small)}
    for size, changes in (others or {}).items():
        words, backbone = BACKBONES[size]
        sizes[f"_{size}"] = entry(words, _merged(_merged(variant, {"backbone": backbone}), changes))
    return sizes


def _counting_sizes(module: str, config: str, about: str, **nano: Any) -> dict[str, Entry]:
    """Size suffix -> entry of a system that counts objects; `nano`: what it changes at that size."""
    path = f"smidgen.models.{module}"
    parts = (f"{path}:{config}", f"{path}:{module}", f"{path}:{module}_criterion")
    return {
        "_r50": Entry(*parts, {}, f"{about}, ResNet-50"),
        "_nano": Entry(*parts, _merged(COUNTING_NANO, nano), f"{about}, for two CPU cores"),
    }


def _dense_sizes(
    module: str,
    builder: str,
    config: str,
    about: str,
    *,
    nano: Mapping[str, Any] | None = None,
    others: Sequence[str] = (),
) -> dict[str, Entry]:
    """Size suffix -> entry of the dense family. nano: what the system changes there, others: keys of BACKBONES."""
    path = f"smidgen.models.{module}"
    parts = (f"{path}:{config}", f"{path}:{builder}", f"{path}:{builder}_criterion")
    sizes = {
        "_r50": Entry(*parts, {}, f"{about}, ResNet-50"),
        "_nano": Entry(*parts, _merged(DENSE_NANO, nano or {}), f"{about}, for two CPU cores"),
    }
    for size in others:
        words, backbone = BACKBONES[size]
        sizes[f"_{size}"] = Entry(*parts, {"backbone": backbone}, f"{about}, {words}")
    return sizes


def _named(name: str, sizes: Mapping[str, Entry]) -> dict[str, Entry]:
    return {name + size: entry for size, entry in sizes.items()}


CATALOGUE: dict[str, Entry] = {
    **_named(
        "deformable_detr_one_stage",
        _sizes("deformable_detr", "one_stage", "OneStageConfig", "Deformable DETR in one stage"),
    ),
    **_named(
        "deformable_detr_refine",
        _sizes("deformable_detr", "one_stage", "OneStageConfig", "Deformable DETR with box refinement", refine=True),
    ),
    **_named(
        "deformable_detr",
        _sizes("deformable_detr", "two_stage", "TwoStageConfig", "Deformable DETR in two stages"),
    ),
    **_named(
        "dab_deformable_detr",
        _sizes("dab_deformable_detr", "dab_deformable_detr", "DABDeformableDETRConfig", "DAB-Deformable DETR"),
    ),
    **_named(
        "dn_deformable_detr",
        _sizes("dn_deformable_detr", "dn_deformable_detr", "DNDeformableDETRConfig", "DN-Deformable DETR"),
    ),
    **_named("dino", _sizes("dino", "dino", "DINOConfig", "DINO")),
    **_named(
        "dino_5scale",
        _sizes("dino", "dino", "DINOConfig", "DINO from stride 4", num_levels=5, backbone={"strides": [4, 8, 16, 32]}),
    ),
    **_named("dino_plus", _sizes("dino_plus", "dino_plus", "DINOPlusConfig", "DINO with position relation")),
    **_named(
        "salience_detr",
        _sizes(
            "salience_detr",
            "salience_detr",
            "SalienceDETRConfig",
            "Salience DETR",
            others={"swin_l": {}, "convnext_l": {}, "focalnet_l": {}},
            nano={
                "level_ratios": [0.4, 0.8, 1.0],
                "layer_ratios": [1.0, 0.6],
                "level_limits_px": [64, 128, 99999],
                "densely_attended": 100,
            },
        ),
    ),
    **_named(
        "salience_detr_5scale",
        _sizes(
            "salience_detr",
            "salience_detr",
            "SalienceDETRConfig",
            "Salience DETR from stride 4 to 32, as released",
            nano={"num_levels": 4, "layer_ratios": [1.0, 0.6], "densely_attended": 100},
            backbone={"strides": [4, 8, 16, 32]},
            background_rows=500,
        ),
    ),
    **_named(
        "cross_dino",
        _sizes(
            "cross_dino",
            "cross_dino",
            "CrossDINOConfig",
            "Cross-DINO",
            others={"swin_t": {"output_norms": True, "beta": 0.1}, "strip_t": {}},
            # From random weights equation 5 as it stands hardly teaches positives (docs/results.md).
            nano={"beta": 0.1, "positive_renorm": True},
        ),
    ),
    **_named(
        "paq_deformable_detr",
        _sizes("paq_detr", "paq_deformable_detr", "PaQDeformableDETRConfig", "PaQ on Deformable DETR", nano=PAQ_NANO),
    ),
    **_named(
        "paq_dab_deformable_detr",
        _sizes("paq_detr", "paq_dab_deformable_detr", "PaQDABDeformableDETRConfig", "PaQ on DAB", nano=PAQ_NANO),
    ),
    **_named(
        "paq_dn_deformable_detr",
        _sizes("paq_detr", "paq_dn_deformable_detr", "PaQDNDeformableDETRConfig", "PaQ on DN", nano=PAQ_NANO),
    ),
    **_named("paq_dino", _sizes("paq_detr", "paq_dino", "PaQDINOConfig", "PaQ on DINO", nano=PAQ_NANO)),
    **_named("dq_detr", _counting_sizes("dq_detr", "DQDETRConfig", "DQ-DETR")),
    **_named("lsq_detr", _counting_sizes("lsq_detr", "LSQDETRConfig", "LSQ-DETR", quotas=NANO_QUOTAS)),
    **_named(
        "paq_lsq_detr",
        _counting_sizes(
            "paq_lsq_detr",
            "PaQLSQDETRConfig",
            "PaQ's patterns with LSQ-DETR's counted queries",
            quotas=NANO_QUOTAS,
            **PAQ_NANO,
        ),
    ),
    **_named(
        "retinanet",
        _dense_sizes(
            "retinanet",
            "retinanet",
            "RetinaNetConfig",
            "RetinaNet",
            nano=TOWERS_NANO,
            others=("mobilenetv2", "shufflenetv2"),
        ),
    ),
    **_named("fcos", _dense_sizes("fcos", "fcos", "FCOSConfig", "FCOS", nano=TOWERS_NANO)),
    **_named(
        "faster_rcnn",
        _dense_sizes("faster_rcnn", "faster_rcnn", "FasterRCNNConfig", "Faster R-CNN", nano=TWO_STAGE_NANO),
    ),
    **_named(
        "query_det",
        _dense_sizes(
            "query_det",
            "query_det",
            "QueryDetConfig",
            "QueryDet on RetinaNet",
            nano=TOWERS_NANO,
            others=("mobilenetv2", "shufflenetv2"),
        ),
    ),
    **_named(
        "query_det_fcos",
        _dense_sizes("query_det", "query_det_fcos", "QueryDetFCOSConfig", "QueryDet on FCOS", nano=TOWERS_NANO),
    ),
    **_named(
        "query_det_faster_rcnn",
        _dense_sizes(
            "faster_rcnn",
            "query_det_faster_rcnn",
            "QueryDetFasterRCNNConfig",
            "QueryDet on Faster R-CNN",
            nano=TWO_STAGE_NANO,
        ),
    ),
}

# (stage, name) -> factory(config) of parts registered from outside.
PARTS: dict[tuple[str, str], Callable[[Any], Any]] = {}


def register_model(name: str, entry: Entry) -> None:
    """Add a system to the catalogue, so that every verb and function accepts its name."""
    if name in CATALOGUE:
        raise ValueError(f"expected a new name, got {name!r}, which the catalogue already holds")
    CATALOGUE[name] = entry


def register_part(stage: str, name: str, factory: Callable[[Any], Any]) -> None:
    """Make `factory(config)` available as `model.parts.<stage>=<name>` in every DETR-family system.

    stage: a keyword of `smidgen.models.detr.DETR` ("selection", "encoder", ...).
    """
    PARTS[stage, name] = factory


def list_models(pattern: str = "*") -> list[str]:
    """Catalogue names that match a shell pattern, in alphabetical order."""
    return sorted(name for name in CATALOGUE if fnmatch(name, pattern))


def configure(name: str, overrides: Mapping[str, Any] | None = None) -> Any:
    """The configuration of a catalogue name with `overrides` (nested mappings or dataclasses), validated.

    Raises ValueError for an unknown name or field (with the nearest one) or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    entry = _lookup(name)
    kind = _resolve(entry.config)
    settings = _without_replaced_backbone(entry.settings, overrides or {})
    _check_fields(kind, {**settings, **(overrides or {})}, "model")
    settings = _overridden(kind, _merged(_defaults(kind), settings), overrides or {})
    try:
        return TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # the configuration's own check, which says what it got
            raise ValueError(first["msg"].removeprefix("Value error, ")) from error
        path = ".".join(str(part) for part in ("model", *first["loc"]))
        raise ValueError(f"{path}: {first['msg']}, got {first.get('input')!r}") from error


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    classes: Classes | None = None,
    pretrained: bool = False,
    config: Any = None,
    **overrides: Any,
) -> Any:
    """Build a system by its catalogue name.

    classes: names and dataset ids of the classes (or only `num_classes`). pretrained: ImageNet weights for the
    backbone, from timm. overrides: fields of the system's configuration; `config`: a finished one instead.
    Raises ValueError for unknown names and fields, for arguments that contradict each other and for a model without
    classes, RuntimeError where pretrained weights cannot be had.
    """
    from smidgen.structures import Classes

    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ValueError(f"expected num_classes to be the number of classes, {len(classes)}, got {num_classes}")
        num_classes = len(classes)
    if config is None:
        if num_classes is None:
            raise ValueError("expected num_classes or classes to build a model, got neither")
        config = configure(name, {**overrides, "num_classes": num_classes})
    else:
        _check_finished(name, config, num_classes, overrides)
    if config.num_classes < 1:
        raise ValueError(f"expected at least one class to build a model, got num_classes={config.num_classes}")
    model: Any = _resolve(_lookup(name).model)(config, pretrained)
    model.name, model.config, model.object_sizes = name, config, None
    model.classes = classes or Classes.numbered(config.num_classes)
    return model


def create_criterion(model: Any) -> nn.Module:
    """The loss a model is trained with, from its name and configuration."""
    criterion: nn.Module = _resolve(_lookup(str(model.name)).criterion)(model.config)
    return criterion


def trainable_from_scratch(config: Any) -> Any:
    """The configuration with trained batch norms in place of frozen ones, which mean nothing without pretrained
    weights.
    """
    from dataclasses import replace

    if config.backbone.norm != "frozen":
        return config
    return replace(config, backbone=replace(config.backbone, norm="batch"))


def _check_finished(name: str, config: Any, num_classes: int | None, overrides: Mapping[str, Any]) -> None:
    """Raise ValueError where a finished configuration is another system's or something else is asked for beside it."""
    kind = _resolve(_lookup(name).config)
    if not isinstance(config, kind):
        raise ValueError(f"expected a {kind.__name__} to build {name}, got a {type(config).__name__}")
    if overrides:
        raise ValueError(
            f"expected a finished configuration or fields to change, got both (config and {', '.join(overrides)}); "
            "change the configuration with dataclasses.replace"
        )
    if num_classes not in (None, config.num_classes):
        raise ValueError(f"expected {config.num_classes} classes as in the configuration, got {num_classes}")


def _overridden(kind: type, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with fields changed, nested dataclasses field by field. A table that is given (quotas, options, parts)
    replaces the preset's: mixing their rows would make a table that nobody asked for.
    """
    hints, result = get_type_hints(kind), dict(settings)
    for key, value in overrides.items():
        value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        nested = _dataclass_of(hints[key]) if isinstance(value, Mapping) else None
        result[key] = value if nested is None else _overridden(nested, _plain(result.get(key)), value)
    return result


def _without_replaced_backbone(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A size's norm and timm options belong to its own backbone: naming another one leaves only the strides."""
    own, other = dict(settings.get("backbone", {})), overrides.get("backbone", {})
    name = other.get("name") if isinstance(other, Mapping) else getattr(other, "name", None)
    if name in (None, own.get("name")):
        return dict(settings)
    return {**settings, "backbone": {"strides": own["strides"]} if "strides" in own else {}}


def _lookup(name: str) -> Entry:
    if name not in CATALOGUE:
        near = get_close_matches(name, CATALOGUE, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `smidgen models` lists them"
        raise ValueError(f"expected the name of a model, got {name!r}{hint}")
    return CATALOGUE[name]


def _resolve(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _defaults(kind: type) -> dict[str, Any]:
    """Default values, so that one field of a nested dataclass can be set without losing the others' defaults."""
    factories = {item.name: item.default_factory for item in fields(kind) if item.default_factory is not MISSING}
    return _merged({}, {name: factory() for name, factory in factories.items()})


def _check_fields(kind: type, settings: Mapping[str, Any], path: str) -> None:
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    for key, value in settings.items():
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"; did you mean {path}.{near[0]}?" if near else ""
            raise ValueError(f"{path}.{key} is not a field of {kind.__name__} ({', '.join(names)}){hint}")
        nested = _dataclass_of(hints[key]) if isinstance(value, Mapping) else None
        if nested is not None:
            _check_fields(nested, value, f"{path}.{key}")


def _dataclass_of(hint: Any) -> type | None:
    """The dataclass of a field, which may also be None there."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
    return kinds[0] if len(kinds) == 1 else None


def _plain(value: Any) -> Mapping[str, Any]:
    """Fields that a nested dataclass has so far; none where it is None."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value or {}
