"""What is saved is what is read, and what cannot be read says why."""

from __future__ import annotations

import errno
import json
import resource
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from smidgen import models
from smidgen.checkpoints import initialize, load, native, save
from smidgen.models import Entry, create_model
from smidgen.structures import Classes, ObjectSizes, Preprocessing

CLASSES = Classes(("car", "boat", "person"), (3, 7, 9))


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    num_classes: int
    width: int = 5
    strides: tuple[int, ...] = (8, 16)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


class Head(nn.Module):
    """Two names for one class head, a label embedding with a row for "no class", and a layer without classes."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.first_head = nn.Linear(config.width, config.num_classes)
        self.second_head = self.first_head
        self.label_embedding = nn.Embedding(config.num_classes + 1, config.width)
        self.box_head = nn.Linear(config.width, 4)
        self.register_buffer("running", torch.zeros(()))


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(HeadConfig, lambda config, pretrained: Head(config), lambda config: nn.Identity())
    monkeypatch.setitem(models.CATALOGUE, "head", entry)


def model(classes: Classes = CLASSES, width: int = 5) -> nn.Module:
    made = create_model("head", classes=classes, width=width, preprocessing={"short_side": 64, "mean": [0, 0, 0]})
    for tensor in made.state_dict().values():
        tensor.copy_(torch.randn_like(tensor))
    return made


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    saved = model()
    save(saved, tmp_path / "a" / "b", protocol="coco@1", metrics={"AP": 0.25})
    read = load(tmp_path / "a" / "b")
    assert (read.name, read.config, read.classes) == ("head", saved.config, CLASSES)
    assert not read.training
    for name, tensor in saved.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)
    description = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert (description["protocol"], description["metrics"]) == ("coco@1", {"AP": 0.25})
    assert description["preprocessing"]["short_side"] == 64
    assert set(description["versions"]) == {"smidgen", "torch"}


def test_how_large_objects_were_is_kept_where_it_is_known(tmp_path: Path) -> None:
    saved = model()
    save(saved, tmp_path / "unknown")
    assert load(tmp_path / "unknown").object_sizes is None
    saved.object_sizes = ObjectSizes(count=7, median_px=8.0, percentile_99_px=31.5, largest_px=40.0)  # type: ignore[assignment]
    save(saved, tmp_path / "known")
    assert load(tmp_path / "known").object_sizes == saved.object_sizes


@pytest.mark.parametrize("sizes", [{"count": 7}, [1], {"count": 7, "mean_px": 3}])
def test_object_sizes_of_another_kind_are_refused(sizes: object, tmp_path: Path) -> None:
    save(model(), tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**description, "object_sizes": sizes}))
    with pytest.raises(ValueError, match="object_sizes"):
        load(tmp_path)


def test_checkpoints_of_earlier_versions_know_no_sizes(tmp_path: Path) -> None:
    save(model(), tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    del description["object_sizes"]
    (tmp_path / "config.json").write_text(json.dumps(description))
    assert load(tmp_path).object_sizes is None


def test_shared_tensors_are_stored_once_and_shared_again(tmp_path: Path) -> None:
    save(model(), tmp_path)
    assert len([name for name in load_file(tmp_path / "model.safetensors") if name.endswith("head.weight")]) == 2
    read = load(tmp_path)
    assert read.first_head.weight is read.second_head.weight


def test_a_run_is_its_best_then_its_last(tmp_path: Path) -> None:
    last, best = model(), model()
    save(last, tmp_path / "last")
    assert torch.equal(load(tmp_path).box_head.weight, last.box_head.weight)
    save(best, tmp_path / "best")
    assert torch.equal(load(tmp_path).box_head.weight, best.box_head.weight)
    assert torch.equal(load(tmp_path / "last" / "model.safetensors").box_head.weight, last.box_head.weight)


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"expected a checkpoint .*, found notes.txt"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"found no folder.*smidgen convert"):
        load(tmp_path / "official.pth")


def change(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_unknown_systems_and_fields_say_so(tmp_path: Path) -> None:
    save(model(), tmp_path)
    change(tmp_path, model="hed")
    with pytest.raises(ValueError, match=r"config.json.*'hed'; did you mean head"):
        load(tmp_path)
    change(tmp_path, model="head", config={"num_classes": 3, "widht": 5})
    with pytest.raises(ValueError, match=r"config.json \(written by smidgen .*widht.*width"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["x"]}')
    with pytest.raises(ValueError, match="not a Smidgen checkpoint"):
        load(tmp_path)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    save(model(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["running"]
    save_file({**tensors, "extra": torch.zeros(1), "box_head.bias": torch.zeros(6)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    for part in ("1 missing (running)", "1 unexpected (extra)", "box_head.bias: (6,) in the file, (4,) in the model"):
        assert part in str(caught.value)


def test_damaged_weights_say_so(tmp_path: Path) -> None:
    save(model(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        load(tmp_path)


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = model()
    save(earlier, tmp_path)

    def fail(state: nn.Module, path: str) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(native, "save_model", fail)
    with pytest.raises(OSError, match=r"could not write .*No space left.*unchanged.*free some space") as caught:
        save(model(), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert torch.equal(load(tmp_path).box_head.weight, earlier.box_head.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_file_the_system_refuses_is_an_os_error(tmp_path: Path) -> None:
    """The same by a real limit of the system, which safetensors reports in its own way."""
    earlier = model()
    save(earlier, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not write .*File too large"):
            save(model(width=500), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert torch.equal(load(tmp_path).box_head.weight, earlier.box_head.weight)


@pytest.mark.parametrize("names", [("person", "tree", "car", "bus"), ("person", "tree", "car"), ("boat",)])
def test_shared_class_names_are_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    """For more classes, for as many others, and for fewer."""
    pretrained = model()
    save(pretrained, tmp_path)
    tuned = model(Classes(names, tuple(range(len(names)))))
    fresh = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    report = initialize(tuned, tmp_path)
    kept = tuple(name for name in names if name in CLASSES.names)
    assert report.kept_classes == kept
    assert set(report.copied) == {"box_head.weight", "box_head.bias", "running"}
    assert "label_embedding.weight" in report.by_class
    assert not report.fresh
    assert torch.equal(tuned.box_head.weight, pretrained.box_head.weight)
    for module in ("first_head", "second_head", "label_embedding"):
        ours, theirs = tuned.get_submodule(module).weight, pretrained.get_submodule(module).weight
        for row, name in enumerate(names):
            source = theirs[CLASSES.names.index(name)] if name in kept else fresh[f"{module}.weight"][row]
            assert torch.equal(ours[row], source), (module, name)
    assert torch.equal(tuned.label_embedding.weight[-1], pretrained.label_embedding.weight[-1])
    assert f"shared classes kept: {', '.join(kept)}" in str(report)


def test_equal_classes_copy_everything(tmp_path: Path) -> None:
    pretrained, tuned = model(), model()
    save(pretrained, tmp_path)
    report = initialize(tuned, tmp_path)
    assert not report.by_class
    assert all(torch.equal(tensor, tuned.state_dict()[name]) for name, tensor in pretrained.state_dict().items())


def test_what_does_not_fit_stays_fresh(tmp_path: Path) -> None:
    save(model(), tmp_path)
    tuned = model(width=6)
    before = tuned.box_head.weight.clone()
    report = initialize(tuned, tmp_path)
    assert torch.equal(tuned.box_head.weight, before)
    assert {"box_head.weight", "label_embedding.weight"} <= set(report.fresh)
    assert set(report.unused) >= {"box_head.weight", "label_embedding.weight"}
    assert "stay fresh" in str(report)


def test_a_checkpoint_of_another_system_is_refused(tmp_path: Path) -> None:
    save(model(), tmp_path)
    save_file({"other.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"nothing of .* fits head"):
        initialize(model(), tmp_path)


def test_an_exported_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(ValueError, match=r"smidgen\.export\.load_bundle"):
        load(tmp_path)
