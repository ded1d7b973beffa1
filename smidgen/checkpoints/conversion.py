"""Official checkpoints become ours: recognized by their names, measured by their shapes, renamed and saved.

The model is built as its official code computes (`parity`), so that it gives the published results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from smidgen.checkpoints.classification import save_classifier
from smidgen.checkpoints.counting_layouts import DQ_DETR, LSQ_DETR
from smidgen.checkpoints.detectron_layout import QUERY_DET, RETINANET, RETINANET_FROM_P2
from smidgen.checkpoints.detr_layouts import (
    IDEA_DINO,
    ORIGINAL_DEFORMABLE_DETR,
    ORIGINAL_DEFORMABLE_DETR_REFINE,
    RELATION_DETR_DAB,
    RELATION_DETR_DINO,
    RELATION_DETR_DN,
    RELATION_DETR_UNUSED_RELATION,
)
from smidgen.checkpoints.inferred_sizes import check_count_classes, dense_sizes, inferred_sizes
from smidgen.checkpoints.native import save
from smidgen.checkpoints.official_classes import NAMES_TENSOR, Labels, classes_in_file, output_classes
from smidgen.checkpoints.official_file import read_official
from smidgen.checkpoints.renaming import Layout, from_official, left_over
from smidgen.checkpoints.salience_layout import SALIENCE_DETR
from smidgen.checkpoints.strip_mlp_layout import STRIP_MLP, strip_mlp_classifier
from smidgen.checkpoints.transformers_deformable_detr import (
    TRANSFORMERS_DEFORMABLE_DETR,
    TRANSFORMERS_DEFORMABLE_DETR_REFINE,
)
from smidgen.features.strip_mlp import SIZES as CLASSIFIERS
from smidgen.models import CATALOGUE, configure, create_model
from smidgen.structures import Classes

# System -> layouts of the releases that exist of it.
OFFICIAL_LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "deformable_detr_one_stage": (ORIGINAL_DEFORMABLE_DETR, TRANSFORMERS_DEFORMABLE_DETR),
    "deformable_detr_refine": (ORIGINAL_DEFORMABLE_DETR_REFINE, TRANSFORMERS_DEFORMABLE_DETR_REFINE),
    "deformable_detr": (RELATION_DETR_UNUSED_RELATION,),
    "dab_deformable_detr": (RELATION_DETR_DAB,),
    "dn_deformable_detr": (RELATION_DETR_DN,),
    "dino_plus": (RELATION_DETR_DINO,),
    "dino": (IDEA_DINO,),
    "dino_5scale": (IDEA_DINO,),
    "dq_detr": (DQ_DETR,),
    "lsq_detr": (LSQ_DETR,),
    "salience_detr": (SALIENCE_DETR,),
    "salience_detr_5scale": (SALIENCE_DETR,),
    "query_det": (QUERY_DET,),
    "retinanet": (RETINANET, RETINANET_FROM_P2),
}
_DEFAULT_SIZE = "_r50"
# Properties of the training's data set that no tensor tells, where a configuration has them.
_OF_THE_DATA = ("count_thresholds", "budgets", "quotas")


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """folder: where the checkpoint stands. model: its catalogue name. source: whose names the file has.

    sizes: what the shapes told of the configuration. num_tensors: tensors of the model. ignored: names of the file of
    which nothing was made. assumed: fields that depend on the data set of the training, that files do not tell and that
    were not given, with the defaults taken.
    """

    folder: Path
    model: str
    source: str
    sizes: Mapping[str, Any]
    num_classes: int
    num_tensors: int
    ignored: tuple[str, ...]
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"wrote {self.folder}: {self.model} of {self.num_classes} outputs, {self.num_tensors} tensors named as in "
            f"{self.source}" + self._left_out() + self._assumptions()
        )

    def _left_out(self) -> str:
        shown = ", ".join(self.ignored[:3]) + (", ..." if len(self.ignored) > 3 else "")
        return f"; {len(self.ignored)} left out ({shown})" if self.ignored else ""

    def _assumptions(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.assumed.items())
        return f"; assumed, as the file does not tell: {values} (give those of its training)" if values else ""


def convert(
    file: Path | str,
    system: str,
    out: Path | str,
    *,
    classes: Classes | Path | str | None = None,
    labels: Labels = "ids",
    **settings: Any,
) -> ConversionReport:
    """Write an official checkpoint (.pth, .pt, .bin, .safetensors) to the folder `out` in our format.

    system: a catalogue name without its size (which then is r50), or with it; or strip_mlp_t and its sizes, whose file
    becomes an image classifier, a detector's backbone with `--init`. classes: names of the outputs, or a COCO
    json that has them; see `output_classes` for `labels`; without it the names in the file, where it has any. settings:
    fields of the configuration that the shapes do not tell, for example `num_queries` of two-stage systems,
    `count_thresholds` and `budgets` or `transformer={"num_heads": 4}`; they win over what was told.
    Errors: ValueError for an unknown system, a file of another one, and files that are damaged or would run code;
    OSError where `out` cannot be written.
    """
    file = Path(file)
    if system in CLASSIFIERS:
        return _convert_classifier(file, system, Path(out), classes, labels, settings)
    name, family = _named(system)
    official = read_official(file)
    layout = _recognized(file, official, family)
    sizes = _sizes(file, layout, official, name, settings)
    num_classes = sizes.pop("num_classes")
    named = classes_in_file(official, num_classes) if classes is None else None
    outputs = output_classes(num_classes, named or classes, labels)
    told = _with(_with({"parity": True}, layout.implied), sizes)
    model = create_model(name, classes=outputs, **_with(told, settings))
    _load(model, layout, official, file)
    save(model, out)
    return ConversionReport(
        folder=Path(out),
        model=name,
        source=layout.source,
        sizes=sizes,
        num_classes=len(outputs),
        num_tensors=len(model.state_dict()),
        ignored=tuple(each for each in left_over(layout, model, official) if named is None or each != NAMES_TENSOR),
        assumed={
            name: getattr(model.config, name)
            for name in _OF_THE_DATA
            if hasattr(model.config, name) and name not in settings
        },
    )


def _convert_classifier(
    file: Path,
    name: str,
    out: Path,
    classes: Classes | Path | str | None,
    labels: Labels,
    settings: Mapping[str, Any],
) -> ConversionReport:
    """Strip-MLP as a folder of `checkpoints/classification.py`; its file tells all there is to know."""
    if settings:
        raise ValueError(f"expected no settings for {name}, whose file tells everything, got {', '.join(settings)}")
    official = read_official(file)
    network, classifier = strip_mlp_classifier(file, official, name, classes, labels)
    save_classifier(network, classifier, out)
    return ConversionReport(
        folder=out,
        model=name,
        source=STRIP_MLP.source,
        sizes={},
        num_classes=len(classifier.class_names),
        num_tensors=len(network.state_dict()),
        ignored=left_over(STRIP_MLP, network, official),
    )


def _named(system: str) -> tuple[str, str]:
    """Catalogue name, and the system it is a size of."""
    if system in OFFICIAL_LAYOUTS:
        return system + _DEFAULT_SIZE, system
    families = [family for family in OFFICIAL_LAYOUTS if system in CATALOGUE and system.startswith(f"{family}_")]
    if not families:
        released = ", ".join([*OFFICIAL_LAYOUTS, *CLASSIFIERS])
        raise ValueError(f"expected a system with official releases ({released}), got {system!r}")
    return system, max(families, key=len)


def _recognized(file: Path, official: Mapping[str, Tensor], family: str) -> Layout:
    """The layout of a system whose names the file has."""
    for layout in OFFICIAL_LAYOUTS[family]:
        if layout.recognizes(official):
            return layout
    others = [each for each, known in OFFICIAL_LAYOUTS.items() if any(layout.recognizes(official) for layout in known)]
    hint = f"it looks like {' or '.join(others)}" if others else f"its names begin with {', '.join(list(official)[:3])}"
    known = " or ".join(layout.source for layout in OFFICIAL_LAYOUTS[family])
    raise ValueError(f"expected a checkpoint of {family} ({known}) in {file}, but {hint}; change the system")


def _sizes(
    file: Path, layout: Layout, official: Mapping[str, Tensor], name: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    config = configure(name, {"num_classes": 1})
    defaults, transformer = asdict(config), settings.get("transformer")
    check_count_classes(layout, official, {**defaults, **settings})
    num_heads = transformer.get("num_heads") if isinstance(transformer, Mapping) else None
    of_the_detr_family = "transformer" in defaults
    sizes = (
        inferred_sizes(layout, official, defaults, num_heads) if of_the_detr_family else dense_sizes(layout, official)
    )
    if "num_classes" not in sizes:
        raise ValueError(f"{file} has no class heads named as in {layout.source}: are weights missing?")
    assert sizes.keys() <= {field.name for field in fields(config)}
    return sizes


def _with(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, both nested."""
    merged = dict(settings)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _with(merged[key], value) if both else value
    return merged


def _load(model: nn.Module, layout: Layout, official: Mapping[str, Tensor], file: Path) -> None:
    try:
        model.load_state_dict(from_official(layout, model, official))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
