"""`smidgen analyze` through the command line: pictures, tables and a page, and what a user gets wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import smidgen.analysis.explanation as explanation
from smidgen import create_model
from smidgen.__main__ import main
from smidgen.analysis.observation import Observation, observe
from smidgen.checkpoints import load, save
from smidgen.data import open_dataset
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.evaluation import evaluate
from smidgen.queries.pattern_content import PatternWeights
from smidgen.recipes.experiment import EvaluationConfig, as_plain, default_experiment
from smidgen.structures import ActiveTokens, Classes
from smidgen.tokens.object_counting import ObjectCount
from smidgen.tokens.salience_filtering import SalienceMaps

SIZES = {
    "num_queries": 12,
    "num_levels": 2,
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]},
    "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
    "preprocessing": {"short_side": 64, "long_side": 96},
}
CLASSES = Classes(("person", "car"), (5, 1))  # another order than in the data, and one class of it is missing

# What every model has.
ERRORS = [
    "error_types.png",
    "precision_recall.png",
    "confusion.png",
    "calibration.png",
    "label_noise.png",
    "wasserstein.png",
]

# Only dense detectors, and those with a sparse finest level, have these.
CASCADE = {"query_heat", "computed_cells", "computed_shares", "finest_level"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    scenes = SceneConfig(size_wh=(96, 64), objects=(1, 4), side_px=(6.0, 16.0), classes=("car", "truck", "person"))
    generate(root, scenes, splits={"train": 1, "val": 3})
    return root


def checkpoint(folder: Path, name: str) -> Path:
    return save(create_model(name, classes=CLASSES, **SIZES), folder)


def analyze(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["analyze", *map(str, arguments), "--device", "cpu", "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, json.loads(out)


def test_a_two_stage_model_is_explained_by_where_its_queries_start(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "explained"
    code, answer = analyze(capsys, checkpoint(tmp_path / "m", "dino_nano"), "--data", data, "--out", out, "--images", 2)
    assert code == 0
    assert names_of(answer) == [
        "001_000000_query_starts.png",
        "001_000000_class_activation.png",
        "002_000001_query_starts.png",
        "002_000001_class_activation.png",
        "query_levels.png",
        "query_activation.png",
        "loss_of_objects.png",
        "score_by_size.png",
        "detection_counts.png",
        "lost_objects.png",
        *ERRORS,
    ]
    assert all(Image.open(file).size[0] > 400 for file in answer["pictures"])
    assert sum(answer["query_levels"]["queries"]) == 3 * 12 and answer["counting"] is None
    patterns = {"pattern_usage", "pattern_embedding"}
    others = {"salience", "refined_tokens", "counting", "receptive_field", "quality_assignment", "cross_gate"}
    assert set(answer["missing"]) == others | patterns | CASCADE
    tables = json.loads((out / "tables.json").read_text())
    assert tables["query_levels"] == answer["query_levels"] and len(tables["images"]) == 2


def names_of(answer: dict[str, Any]) -> list[str]:
    return [Path(file).name for file in answer["pictures"]]


def test_every_object_is_found_or_lost_at_a_stage_and_judged_as_evaluate_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "m", "dino_nano")
    arguments = ("--data", data, "--out", tmp_path / "o", "--images", 0, "--score", 0.05, "--protocol", "aitod")
    code, answer = analyze(capsys, run, *arguments)
    losses = answer["loss_of_objects"]
    stages = [row["missed"] for row in losses["stages"] if row["missed"] is not None]
    assert code == 0 and sum(stages) == answer["missed"] > 0
    assert answer["found"] + answer["missed"] == losses["objects"]
    assert losses["settings"]["score_floor"] == 0.05
    lines = (tmp_path / "o" / "objects.csv").read_text().splitlines()
    assert len(lines) == 1 + losses["objects"]
    lost_at = {row["stage"] for row in losses["stages"] if row["missed"]}
    assert set(losses["examples"]) == lost_at
    judged = evaluate(load(run), open_dataset(data, "val"), protocol="aitod")
    assert answer["errors"]["evaluation"]["metrics"] == pytest.approx(dict(judged.metrics), abs=1e-6)
    assert answer["errors"]["protocol"] == "aitod@1" and answer["errors"]["error_types"]["by_size"]


def test_the_protocol_is_the_runs_own_where_it_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path / "run" / "best", "dino_nano")
    experiment = replace(default_experiment("dino_nano"), evaluation=EvaluationConfig(protocol="aitod"))
    (tmp_path / "run" / "experiment.yaml").write_text(yaml.safe_dump(as_plain(experiment)))
    _, answer = analyze(capsys, tmp_path / "run", "--data", data, "--out", tmp_path / "o", "--images", 0)
    assert answer["errors"]["protocol"] == "aitod@1"


def test_the_page_needs_nothing_else_and_names_what_there_is_not(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "explained"
    run = checkpoint(tmp_path / "m", "deformable_detr_one_stage_nano")
    code, answer = analyze(capsys, run, "--data", data, "--out", out)
    page = (out / "explanation.html").read_text(encoding="utf-8")
    drawn = {Path(file).stem.split("_", 2)[-1] for file in answer["pictures"] if "images" in file}
    assert code == 0 and drawn == {"class_activation"} and answer["query_levels"] is None
    assert answer["query_activation"]["by_level"] is None, "learned queries start at no level"
    assert "its queries start at learned places" in page and "it does not count objects" in page
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', page))
    assert "http" not in re.sub(r'src="[^"]*"', "", page) and "<script" not in page


def test_every_link_of_the_page_leads_somewhere_and_chapters_stand_in_order(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "explained"
    analyze(capsys, checkpoint(tmp_path / "m", "dino_nano"), "--data", data, "--out", out, "--images", 2)
    page = (out / "explanation.html").read_text(encoding="utf-8")
    anchors = re.findall(r' id="([^"]*)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(anchors)
    chapters = re.findall(r"<h2>([^<]*)</h2>", page)
    assert chapters == [
        "What was missed",
        "Why, stage by stage",
        "Kinds of error",
        "How the system works inside",
        "Single images",
        "Not here",
    ]
    assert "objects were found" in page or "object was found" in page


def test_all_sections_stand_on_the_page_of_a_model_with_all_evidence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation, "observe", observe_with_evidence)
    model = load(checkpoint(tmp_path / "m", "dino_nano"))
    found = explanation.explain(model, open_dataset(data, "val"), tmp_path / "out", images=1)
    page = found.page.read_text(encoding="utf-8")
    others = {"quality_assignment", "cross_gate", "pattern_embedding", "receptive_field"}
    assert set(found.missing) == others | CASCADE
    assert found.counting is not None and len(found.counting.images) == 3
    assert {file.stem.removeprefix("001_") for file in found.pictures} >= {"query_levels", "counting"}
    crops = sum(map(len, found.losses.gallery.crops.values()))
    assert len(re.findall("<figure", page)) == len(found.pictures) - 2 + crops, "losses are a table and single crops"
    headings = ("Salience over the image", "Tokens refined", "Counted and true", "Patterns that", "Class activation")
    assert all(heading in page for heading in headings)


def observe_with_evidence(model: Any, images: Any, targets: Any) -> Observation:
    seen = observe(model, images, targets)
    assert seen.tokens is not None
    batch, canvas_hw = len(seen), (images.pixels.shape[2], images.pixels.shape[3])
    refined = ActiveTokens(torch.zeros(batch, 1, dtype=torch.long), torch.zeros(batch, 1, dtype=torch.bool))
    maps = SalienceMaps(tuple(torch.zeros(batch, *shape) for shape in seen.tokens.shapes), (refined,), canvas_hw)
    counted = ObjectCount(torch.eye(3)[torch.ones(batch, dtype=torch.long)], (1, 4))
    weights = torch.eye(seen.output.final.logits.shape[1]).expand(batch, -1, -1)
    mixed = PatternWeights(weights, torch.zeros(weights.shape[-1], 8))
    return replace(seen, output=replace(seen.output, evidence=(maps, counted, mixed)))


def test_patterns_and_receptive_fields_of_a_model_that_mixes_patterns(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "m", "paq_dino_nano")
    code, answer = analyze(
        capsys, run, "--data", data, "--out", tmp_path / "out", "--images", 0, "--receptive-field", 2
    )
    assert code == 0 and {"pattern_usage.png", "receptive_field.png"} <= {Path(f).name for f in answer["pictures"]}
    usage = answer["pattern_usage"]
    assert sum(usage["usage"]) == pytest.approx(1) and 1 <= usage["effective_patterns"] <= usage["patterns"]
    assert answer["receptive_field"]["level 0"]["images"] == 2 and answer["pattern_embedding"]["images"] == 3
    assert "at least 4 images" in answer["missing"]["pattern_embedding"], "three images are too few for t-SNE"


def test_objects_of_classes_that_the_model_lacks_are_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(data, "val")
    known = [dataset.classes.names.index(name) for name in CLASSES.names]
    expected = sum(int(label) in known for record in dataset.records for label in record.labels)
    run = checkpoint(tmp_path / "m", "dino_nano")
    _, answer = analyze(capsys, run, "--data", data, "--out", tmp_path / "out", "--images", 0)
    assert sum(row["objects"] for row in answer["query_levels"]["by_size"]) == expected


def test_what_a_user_gets_wrong_ends_with_two(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = checkpoint(tmp_path / "m", "dino_nano")
    code, answer = analyze(capsys, run, "--data", data, "--out", tmp_path / "o", "--split", "tset")
    assert code == 2 and "error" in answer
    code, answer = analyze(capsys, tmp_path / "nothing", "--data", data, "--out", tmp_path / "o")
    assert code == 2 and "error" in answer and not (tmp_path / "o").exists()


def test_an_output_that_is_a_file_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "taken"
    file.write_text("mine")
    code, answer = analyze(capsys, tmp_path / "no run", "--data", tmp_path / "no data", "--out", file)
    assert code == 2 and "is a file" in answer["error"] and "--out" in answer["hint"]
    code, answer = analyze(capsys, tmp_path / "no run", "--data", tmp_path / "no data", "--out", file / "inside")
    assert code == 2 and file.read_text() == "mine"


def test_the_folder_is_made_before_the_model_is_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "m", "dino_nano")
    (run / "model.safetensors").write_bytes(b"damaged")
    code, answer = analyze(capsys, run, "--data", data, "--out", tmp_path / "deep" / "o")
    assert code == 2 and "damaged" in answer["error"] and (tmp_path / "deep" / "o").is_dir()
