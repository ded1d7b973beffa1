"""Run by torchrun on each host of test_two_hosts: trains a nano model for two steps, and leaves this host's weights."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_model

from smidgen import create_criterion, create_model, open_dataset
from smidgen.structures import Preprocessing
from smidgen.training import TrainingConfig, train


def main(data: Path, out: Path) -> None:
    torch.manual_seed(0)
    dataset = open_dataset(data, "train")
    model = create_model("fcos_nano", classes=dataset.classes, preprocessing=Preprocessing(short_side=64, long_side=64))
    config = TrainingConfig(epochs=1, max_steps=2, batch_size=4, workers=0, log_every=1, memory_forecast=False)
    train(model, create_criterion(model), dataset, config, out, device="cpu")
    save_model(model, str(out / "weights.safetensors"))
    process = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "GLOO_SOCKET_IFNAME")}
    (out / "process.json").write_text(json.dumps(process))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
