"""Eight bits: an OpenVINO bundle whose weights and activations become integers, their ranges read from real images.

Post-training quantization of nncf (Kozlov, Lazarevich, Shamporov, Lyalyushkin, Gorbachev: "Neural Network Compression
Framework", 2020). Such a file says something else than the model; how much else only AP on labeled images tells, so it
is judged by what `smidgen export` measures, not by comparing detections.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from smidgen.checkpoints.atomic_write import write_folder_atomically
from smidgen.data.geometry import resize_pixels
from smidgen.export.bundle import BUNDLE_FILE, Bundle, read_bundle, write_bundle
from smidgen.export.bundle_detector import on_canvas
from smidgen.export.missing_package import required
from smidgen.export.traced_detector import INPUTS
from smidgen.structures import ImageBatch


def quantize(bundle_folder: Path, pictures: Iterable[UInt8[Tensor, "3 _ _"]], out: Path) -> Bundle:
    """Write the int8 bundle of a float OpenVINO bundle to the folder `out`; `pictures` as they are on disk.

    The result is not verified until somebody measured it. Errors: ValueError for another runtime's bundle or without
    pictures.
    """
    bundle = read_bundle(bundle_folder)
    if bundle.runtime != "openvino" or bundle.precision != "fp32":
        raise ValueError(f"expected a float OpenVINO bundle to quantize, got {bundle.runtime} {bundle.precision}")
    inputs = list(_inputs(bundle, pictures))
    if not inputs:
        raise ValueError("expected images to read the ranges of activations from, got none; change --data")
    made = replace(bundle, precision="int8", verified=False, checks=())

    def fill(folder: Path) -> None:
        shutil.copytree(
            bundle_folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(BUNDLE_FILE, "model.*")
        )
        _write_quantized(bundle_folder / bundle.file, folder / made.file, inputs)
        write_bundle(made, folder)

    write_folder_atomically(out, fill)
    return made


def _write_quantized(source: Path, path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    nncf: Any = required("nncf", "openvino")
    openvino: Any = required("openvino", "openvino")
    model = openvino.Core().read_model(str(source))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(inputs),
        subset_size=len(inputs),
        # Attention and norms need finer treatment than convolutions.
        model_type=nncf.ModelType.TRANSFORMER,
    )
    openvino.save_model(quantized, str(path), compress_to_fp16=False)


def _inputs(bundle: Bundle, pictures: Iterable[Tensor]) -> Iterator[dict[str, np.ndarray]]:
    for picture in pictures:
        size = bundle.preprocessing.resized_hw(picture.shape[1], picture.shape[2])
        images = ImageBatch.collate([resize_pixels(picture, size)], bundle.preprocessing.pad_multiple)
        images = on_canvas(images, bundle.canvas)
        arrays = images.pixels.numpy(), np.array(images.sizes, dtype=np.int64)
        yield dict(zip(INPUTS, arrays, strict=True))
