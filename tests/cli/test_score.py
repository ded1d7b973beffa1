from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen.__main__ import main
from smidgen.evaluation.visdrone_files import write_visdrone_detections

SIDES = (6, 12, 24, 48)
NAMES = ("ship", "car")
GOLDEN = Path(os.environ.get("SMIDGEN_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


def ground_truth() -> dict[str, Any]:
    """Two images, one object of each side in each; the classes take turns."""
    boxes = [(image, index, side) for image in (11, 12) for index, side in enumerate(SIDES)]
    return {
        "images": [
            {"id": 11, "file_name": "a/0001.png", "width": 400, "height": 300},
            {"id": 12, "file_name": "a/0002.png", "width": 400, "height": 300},
        ],
        "categories": [{"id": 1, "name": "ship"}, {"id": 3, "name": "car"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": (1, 3)[index % 2],
                "bbox": [80 * index, 10, side, side],
                "area": side * side,
                "iscrowd": 0,
            }
            for number, (image, index, side) in enumerate(boxes, start=1)
        ],
    }


def perfect() -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: one[key] for key in keys}, "score": 0.5} for one in ground_truth()["annotations"]]


def as_predicted(results: list[dict[str, Any]], *, folder: str = "/elsewhere/a") -> dict[str, Any]:
    """What `smidgen predict --json` writes, by a model that numbers its classes otherwise."""
    names = {1: (7, "ship"), 3: (2, "car"), 9: (4, "tree")}
    return {
        "images": [
            {
                "file": f"{folder}/000{image - 10}.png",
                "detections": [
                    {
                        "bbox": one["bbox"],
                        "score": one["score"],
                        "category_id": names[one["category_id"]][0],
                        "category": names[one["category_id"]][1],
                    }
                    for one in results
                    if one["image_id"] == image
                ],
            }
            for image in (11, 12)
        ],
        "counts": {},
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "truth.json").write_text(json.dumps(ground_truth()))
    return tmp_path


def run(place: Path, predictions: Any, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Any:
    """The JSON that the verb prints for predictions given as an object (written to a file) or a path."""
    path = predictions if isinstance(predictions, Path) else place / "found.json"
    if path == place / "found.json":
        path.write_text(json.dumps(predictions))
    defaults = [] if "--ground-truth" in options else ["--ground-truth", str(place / "truth.json")]
    assert main(["score", *defaults, "--predictions", str(path), *options, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_json_has_the_keys_others_rely_on(place: Path, capsys: pytest.CaptureFixture[str]):
    found = run(place, perfect(), capsys, "--protocol", "aitod@1")
    assert set(found) == {"protocol", "metrics", "per_class", "settings"}
    assert found["protocol"] == "aitod@1" and set(found["per_class"]) == set(NAMES)
    assert found["metrics"]["AP"] == found["metrics"]["APvt"] == pytest.approx(1.0)
    assert found["settings"]["predictions"] == str(place / "found.json")


@pytest.mark.parametrize("kind", ["coco", "visdrone"])
def test_files_are_scored_without_torch(kind: str, place: Path):
    (place / "found.json").write_text(json.dumps(perfect()))
    arguments = {
        "coco": ["--ground-truth", str(place / "truth.json"), "--predictions", str(place / "found.json")],
        "visdrone": visdrone_folders(place),
    }
    script = (
        "import sys; from smidgen.cli.app import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    call = [sys.executable, "-c", script, "score", *arguments[kind]]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False 0", done.stderr


def visdrone_folders(place: Path) -> list[str]:
    """Perfect detections in VisDrone's files; VisDrone's 1 and 3 are pedestrian and bicycle."""
    (place / "set" / "annotations").mkdir(parents=True)
    for image in (11, 12):
        rows = [(*one["bbox"], 1, one["category_id"], 0, 0) for one in perfect() if one["image_id"] == image]
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        (place / "set" / "annotations" / f"000{image - 10}.txt").write_text(text)
    write_visdrone_detections(place / "detections", perfect(), ground_truth()["images"])
    return ["--ground-truth", str(place / "set"), "--predictions", str(place / "detections")]


def test_visdrones_files_are_scored_by_its_toolkit(place: Path, capsys: pytest.CaptureFixture[str]):
    options = visdrone_folders(place)
    found = run(place, Path(options[3]), capsys, *options[:2], "--protocol", "visdrone")
    assert found["metrics"]["AP"] == pytest.approx(100.0)
    assert found["per_class"]["bicycle"]["AP50"] == pytest.approx(100.0) and found["per_class"]["car"]["AP"] == -1


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="golden cases are not here")
def test_visdrones_toolkit_is_met_with_the_pictures_beside_the_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = GOLDEN / "evaluation" / "visdrone_toolkit_a"
    case = json.loads((folder / "case.json").read_text())
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").symlink_to(folder / "annotations")
    for file, (height, width) in zip(
        sorted((folder / "annotations").iterdir()), case["config"]["image_sizes"], strict=True
    ):
        Image.new("1", (width, height)).save(tmp_path / "images" / f"{file.stem}.png")
    options = ["--ground-truth", str(tmp_path), "--protocol", "visdrone"]
    found = run(tmp_path, folder / "detections", capsys, *options)
    for name, value in case["expected"]["metrics"].items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-3), name


def test_the_file_of_predict_is_matched_by_names(place: Path, capsys: pytest.CaptureFixture[str]):
    stray = {**perfect()[0], "category_id": 9}
    found = run(place, as_predicted([*perfect(), stray]), capsys)
    assert found["metrics"]["AP"] == pytest.approx(1.0) and found["settings"]["detections"] == 8


def test_what_is_left_out_is_said(place: Path, capsys: pytest.CaptureFixture[str]):
    document = as_predicted([*perfect(), {**perfect()[0], "category_id": 9}])
    document["images"][1] |= {"detections": [], "error": "broken"}
    (place / "found.json").write_text(json.dumps(document))
    options = ["--ground-truth", str(place / "truth.json"), "--predictions", str(place / "found.json")]
    assert main(["score", *options]) == 0
    out, err = capsys.readouterr()
    assert "1 detections of classes that the ground truth does not have" in err and "1 images could not be read" in err
    assert "coco@1" in out and "small" in out


def test_image_ids_may_be_file_names(place: Path, capsys: pytest.CaptureFixture[str]):
    named = [{**one, "image_id": f"000{one['image_id'] - 10}"} for one in perfect()]
    assert run(place, named, capsys)["metrics"]["AP"] == pytest.approx(1.0)


def test_categories_may_be_names(place: Path, capsys: pytest.CaptureFixture[str]):
    named = [{**one, "category_id": {1: "ship", 3: "car"}[one["category_id"]]} for one in perfect()]
    assert run(place, named, capsys)["metrics"]["AP"] == pytest.approx(1.0)


def test_classes_without_a_known_name_go_by_number_and_that_is_said(place: Path, capsys: pytest.CaptureFixture[str]):
    boats = {"bbox": [80, 10, 12, 12], "score": 0.01, "category_id": 3, "category": "boat"}
    (place / "found.json").write_text(json.dumps({"images": [{"file": "0001.png", "detections": [boats]}]}))
    options = ["--ground-truth", str(place / "truth.json"), "--predictions", str(place / "found.json")]
    assert main(["score", *options]) == 0
    assert "classes are taken by their numbers: boat = 3" in capsys.readouterr().err


def test_what_looks_wrong_is_said_and_judged_as_it_is(place: Path, capsys: pytest.CaptureFixture[str]):
    found = run(place, [{**one, "score": 50} for one in perfect()], capsys)
    assert "are they logits or per cent" in found["settings"]["doubts"][0] and found["metrics"]["AP"] == 1.0


def test_no_detections_are_a_result(place: Path, capsys: pytest.CaptureFixture[str]):
    assert run(place, [], capsys)["metrics"]["AP"] == 0.0


def test_classes_may_be_left_out_of_account(place: Path, capsys: pytest.CaptureFixture[str]):
    swapped = [{**one, "category_id": 4 - one["category_id"]} for one in perfect()]
    assert run(place, swapped, capsys)["metrics"]["AP"] == 0.0
    found = run(place, swapped, capsys, "--class-agnostic")
    assert found["metrics"]["AP"] == pytest.approx(1.0) and list(found["per_class"]) == ["object"]


def test_intervals_are_there_when_asked_for(place: Path, capsys: pytest.CaptureFixture[str]):
    found = run(place, perfect()[:5], capsys, "--bootstrap", "20")
    low, high = found["intervals"]["AP50"]
    assert low < found["metrics"]["AP50"] < high


def test_errors_are_told_in_pictures_and_numbers(place: Path, capsys: pytest.CaptureFixture[str]):
    swapped = [{**perfect()[0], "category_id": 3}, *perfect()[1:]]
    found = run(place, swapped, capsys, "--protocol", "aitod", "--errors", str(place / "errors"))
    every = found["errors"]["error_types"]["by_size"][0]
    assert every["counts"]["Cls"] == 1 and every["delta_AP"]["Cls"] > 0
    written = json.loads((place / "errors" / "errors.json").read_text())
    assert {**written, "pictures": found["errors"]["pictures"]} == found["errors"]
    assert all(Path(file).stat().st_size > 5_000 for file in found["errors"]["pictures"])
    assert {Path(file).stem for file in found["errors"]["pictures"]} >= {"error_types", "confusion", "calibration"}
    error = run(place, swapped, capsys, "--errors", str(place / "truth.json"), code=2)["error"]
    assert "expected a folder in --errors" in error


def test_the_table_of_errors_stands_below_the_figures(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("smidgen.cli.score.write_errors", lambda analysis, folder: [])
    (place / "found.json").write_text(json.dumps([]))
    options = ["--ground-truth", str(place / "truth.json"), "--predictions", str(place / "found.json")]
    assert main(["score", *options, "--errors", str(place / "errors")]) == 0
    out = capsys.readouterr().out
    assert "Types of error by size" in out and "(8)" in out and "…" not in out


@pytest.mark.parametrize("table", ["smidgen", "soda"])
def test_windows_are_merged_first(table: str, place: Path, capsys: pytest.CaptureFixture[str]):
    places = [(number, image, left) for number, (image, left) in enumerate([(11, 0), (11, 60), (12, 0), (12, 60)])]
    written = {
        "smidgen": {
            "windows": [
                {"image_id": number, "file": f"{number}.jpg", "original_image_id": image, "left": left, "top": 0}
                | {"scale": 1.5}
                for number, image, left in places
            ]
        },
        "soda": {
            "images": [
                {"id": number, "file_name": f"{number}.jpg", "ori_id": image, "start_coord": [left, 0]}
                for number, image, left in places
            ]
        },
    }
    (place / "windows.json").write_text(json.dumps(written[table]))
    results = [
        {**one, "image_id": number, "bbox": [1.5 * (x - left), 1.5 * y, 1.5 * w, 1.5 * h]}
        for one in perfect()
        for number, image, left in places
        for x, y, w, h in [one["bbox"]]
        if image == one["image_id"]
    ]
    options = ["--windows", str(place / "windows.json")] + (["--window-scale", "1.5"] if table == "soda" else [])
    found = run(place, results, capsys, *options)
    assert found["metrics"]["AP"] == pytest.approx(1.0)
    assert (found["settings"]["detections_in_windows"], found["settings"]["detections"]) == (16, 8)


OWN = """
name: my_drones
version: 3
iou_thresholds: [0.25, 0.5]
areas:
  all: [0, 1.0e+10]
  dots: [0, 100]
detection_limits: [3]
score_floor: 0.1
figures:
  AP: {measure: average_precision}
  AP25_dots: {measure: average_precision, iou: 0.25, area: dots}
  recall: {measure: average_recall, iou: 0.5}
"""


def test_a_protocol_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "mine.yaml").write_text(OWN)
    # Half a side off: IoU 1/3 passes 0.25 only.
    moved = [{**one, "bbox": [one["bbox"][0] + one["bbox"][2] / 2, *one["bbox"][1:]]} for one in perfect()]
    found = run(place, moved, capsys, "--protocol", str(place / "mine.yaml"))
    assert found["protocol"] == "my_drones@3" and list(found["settings"]["areas"]) == ["all", "dots"]
    assert found["metrics"] == pytest.approx({"AP": 0.5, "AP25_dots": 1.0, "recall": 0.0})
    low = [{**one, "score": 0.05} for one in perfect()]
    assert run(place, low, capsys, "--protocol", str(place / "mine.yaml"))["metrics"]["AP"] == 0.0


def test_json_of_other_encodings_is_read(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "truth.json").write_bytes(json.dumps(ground_truth()).encode("utf-16"))
    (place / "other.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(perfect()).encode())
    assert run(place, place / "other.json", capsys)["metrics"]["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("predictions", "options", "said"),
    [
        ([{**perfect()[0], "image_id": 99}], [], "image_id of the predictions not in the ground truth (99)"),
        ([{**perfect()[0], "category_id": 2}], [], "category_id of the predictions not in the ground truth (2)"),
        ([{"image_id": 11, "category_id": 1, "bbox": [0, 0, 1, 1]}], [], "every prediction to have 'score'"),
        ({"annotations": []}, [], "or what `smidgen predict` writes"),
        (as_predicted(perfect()) | {"images": [{"file": "x.png", "detections": []}]}, [], "'x.png'"),
        ([{**perfect()[0], "image_id": [11]}], [], "image_id to be a number or a string, got [11]"),
        ([{**perfect()[0], "score": "high"}], [], "score to be a number, got 'high'"),
        ([{**perfect()[0], "bbox": None}], [], "bbox as [x, y, width, height]"),
        ({"images": [{"file": "0001.png", "detections": [{"score": 1}]}]}, [], "every detection to have 'category_id'"),
        (
            {"images": [{"file": "0001.png", "detections": [{**perfect()[0], "category_id": 9, "category": "tree"}]}]},
            [],
            "neither by name nor by number",
        ),
        ([{"image_id": 1}], ["--windows", "found.json"], "to list windows"),
        ([], ["--protocol", "visdron"], "did you mean 'visdrone'?"),
        ([], ["--protocol", "mine.yaml"], "mine.yaml does not exist"),
        ([], ["--ground-truth", "nowhere.json"], "nowhere.json"),
        ([], ["--windows", "nowhere.json"], "nowhere.json"),
    ],
)
def test_errors_say_what_to_change(
    predictions: Any, options: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
):
    options = [str(place / option) if option == "found.json" else option for option in options]
    failure = run(place, predictions, capsys, *options, code=2)
    assert said in failure["error"]


def test_wrong_ids_are_reported_with_both_files(place: Path, capsys: pytest.CaptureFixture[str]):
    hint = run(place, [{**perfect()[0], "image_id": 99}], capsys, code=2)["hint"]
    assert str(place / "truth.json") in hint and str(place / "found.json") in hint


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"[{", "not valid JSON"), (b"\xff\xfe[", "JSON")])
def test_broken_files_are_named(content: bytes, said: str, place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "broken.json").write_bytes(content)
    error = run(place, place / "broken.json", capsys, code=2)["error"]
    assert said in error and "broken.json" in error


def test_missing_options_and_the_list_of_protocols(capsys: pytest.CaptureFixture[str]):
    assert main(["score", "--json"]) == 2
    assert "--ground-truth" in json.loads(capsys.readouterr().out)["error"]
    assert main(["score", "--protocol", "list"]) == 0
    text = capsys.readouterr().out
    assert "aitod@1" in text and "verytiny 0 to 8" in text and "1, 100, 1500" in text
