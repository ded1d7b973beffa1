"""The page of a shared model: what it finds, how well and by which protocol, how its images are made, how to use it.

Mitchell et al., "Model Cards for Model Reporting", FAT* 2019; the header is the one that the Hugging Face hub reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.checkpoints.native import classes_of

_LEADING_METRICS = ("AP", "AP50", "AP75", "APvt", "APt", "APs", "APm", "APl", "AR100", "AR500", "AR1500")
_TO_FILL_IN = "*To be filled in by the owner: {}*"


def model_card(
    description: Mapping[str, Any],
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    license: str = "unknown",
    repository: str = "owner/name",
) -> str:
    """Markdown. description: a checkpoint's config.json. evaluations: by split, as `smidgen evaluate` writes them.
    license: an identifier of the hub, such as apache-2.0.
    """
    classes = classes_of(description)
    parts = [
        f"---\n{_header(description, evaluations, license)}\n---",
        f"# {description['model']}: {_counted(len(classes), 'class', 'classes')}",
        "An object detector for small and tiny objects, made with Smidgen.",
        f"## How to use\n\n{_usage(repository)}",
        f"## Classes\n\n{_table(('id', 'name'), list(zip(classes.ids, classes.names, strict=True)))}",
        f"## Results\n\n{_results(description, evaluations)}",
        f"## Images\n\n{_preprocessing(description.get('preprocessing') or {})}",
        *([f"## Objects\n\n{_objects(sizes)}"] if (sizes := description.get("object_sizes")) else []),
        f"## Training data, license and limits\n\n{_owner(license)}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(description: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]], license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    name = str(description["model"])
    results = [
        EvalResult(
            task_type="object-detection",
            dataset_type="unknown",
            dataset_name=split,
            metric_type=metric,
            metric_name=f"{metric} ({evaluation['protocol']})",
            metric_value=round(float(value), 4),
        )
        for split, evaluation in evaluations.items()
        for metric, value in _shown(evaluation["metrics"])
    ]
    card = ModelCardData(
        license=license,
        library_name="smidgen",
        pipeline_tag="object-detection",
        tags=["object-detection", "small-object-detection", "tiny-object-detection", "safetensors"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml(line_break="\n")).strip()


def _usage(repository: str) -> str:
    return (
        "```python\nimport smidgen\n\n"
        f'model = smidgen.load("{repository}")\n'
        'for detections in smidgen.predict(model, "images/"):\n'
        "    print(detections.file, detections.to_coco())\n```\n\n"
        f"On the command line: `smidgen predict {repository} images/ --out found`, or `smidgen serve {repository}`."
    )


def _results(description: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [_evaluated(split, evaluation) for split, evaluation in evaluations.items()]
    if not parts and description.get("metrics"):
        parts = [_table(("metric", "value"), _figures(description["metrics"]))]
        parts.append(f"Protocol: {description.get('protocol') or 'not recorded'}.")
    return "\n\n".join(parts) or "Not evaluated yet: `smidgen evaluate RUN --data DATA` writes what belongs here."


def _evaluated(split: str, evaluation: Mapping[str, Any]) -> str:
    per_class = [(name, *_cells(metrics, ("AP", "AP50"))) for name, metrics in evaluation.get("per_class", {}).items()]
    parts = [
        f"### {split}, protocol {evaluation['protocol']}",
        _table(("metric", "value"), _figures(evaluation["metrics"])),
        *([_table(("class", "AP", "AP50"), per_class)] if per_class else []),
    ]
    return "\n\n".join(parts)


def _shown(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """Figures that there are (-1: there is no such ground truth), the usual ones first."""
    order = [name for name in _LEADING_METRICS if name in metrics]
    order += [name for name in metrics if name not in order]
    return [(name, metrics[name]) for name in order if isinstance(metrics[name], int | float) and metrics[name] != -1]


def _figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{value:.4f}") for name, value in _shown(metrics)]


def _cells(metrics: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{metrics[name]:.4f}" if metrics.get(name, -1) != -1 else "-" for name in names]


def _preprocessing(preprocessing: Mapping[str, Any]) -> str:
    if not preprocessing:
        return "As config.json says."
    channels = str(preprocessing["channel_order"]).upper()
    return (
        f"Short side {preprocessing['short_side']} px unless the long side would pass {preprocessing['long_side']} px; "
        f"{channels} in [0, 1], mean {list(preprocessing['mean'])}, standard deviation {list(preprocessing['std'])}; "
        f"padded to multiples of {preprocessing['pad_multiple']} px. `smidgen` does this by itself."
    )


def _objects(sizes: Mapping[str, Any]) -> str:
    return (
        f"{sizes['count']} in training; the longer side of half of them is at most {sizes['median_px']:g} px, of 99 % "
        f"at most {sizes['percentile_99_px']:g} px, of the largest {sizes['largest_px']:g} px, in pixels of the images "
        "on disk. Tiles of large images overlap accordingly."
    )


def _owner(license: str) -> str:
    lines = [_TO_FILL_IN.format("what it was trained on, and where it fails.")]
    if license == "unknown":
        lines.append(_TO_FILL_IN.format("the license of the weights, which the training data may restrict."))
    return "\n\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(cell: object) -> str:
    return " ".join(str(cell).replace("|", "\\|").split())


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
