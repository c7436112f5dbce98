"""Exported programs beside the model they come from."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from possam.export.programs import ImageEncoder, MaskDecoder, Scorer
from possam.models import OpenVocabularySegmenter
from possam.utils.files import read_json

__all__ = ["Difference", "compare", "run_onnx", "run_pt2"]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """How far an output of an exported program is from the model's own.

    Attributes:
        file, output: of the program.
        relative: largest difference over the largest magnitude; for bools the share of those that differ.
    """

    file: str
    output: str
    relative: float


def compare(model: OpenVocabularySegmenter, folder: str | Path, images: Tensor, classes: Arrays) -> list[Difference]:
    """Run every program of a folder, and the model, on the same inputs.

    Programs are compared one by one: each takes what the model itself gave for the step before, so that a difference
    is its own.

    Args:
        model: the one that was exported, on the CPU, in eval mode.
        folder: of `export_model`.
        images: B×3×S×S float32 RGB in [0, 255].
        classes: `vocabulary_arrays` of any vocabulary.

    Returns:
        One entry for every output of every file. ONNX is left out where onnxruntime is not installed.

    Raises:
        FileNotFoundError, ValueError: the folder is not a whole export.
    """
    folder = Path(folder)
    programs = read_json(folder / "export.json")["programs"]
    known: dict[str, NDArray[Any]] = {"image": images.numpy(), **classes}
    differences = []
    for name, module in (("encoder", ImageEncoder), ("decoder", MaskDecoder), ("scorer", Scorer)):
        inputs = {spec["name"]: known[spec["name"]] for spec in programs[name]["inputs"]}
        with torch.no_grad():
            wanted = module(model)(*(torch.from_numpy(value) for value in inputs.values()))
        known |= {key: value.numpy() for key, value in wanted.items()}
        for file, found in _runs(folder, programs[name]["files"], inputs):
            differences += [Difference(file, key, _relative(found[key], known[key])) for key in wanted]
    return differences


def run_pt2(path: Path, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs of a saved torch.export program."""
    with torch.no_grad():
        found = torch.export.load(path).module()(*(torch.from_numpy(value) for value in inputs.values()))
    return {name: value.numpy() for name, value in found.items()}


def run_onnx(path: Path, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs of an ONNX file in onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {spec.name for spec in session.get_inputs()}
    names = [spec.name for spec in session.get_outputs()]
    found = session.run(names, {name: value for name, value in inputs.items() if name in taken})
    return dict(zip(names, found, strict=True))


_RUNNERS = {"pt2": run_pt2, "onnx": run_onnx}


def _runs(
    folder: Path, files: Mapping[str, list[str]], inputs: Arrays
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    for name, (file, *_) in files.items():
        if name != "onnx" or importlib.util.find_spec("onnxruntime"):
            yield file, _RUNNERS[name](folder / file, inputs)


def _relative(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    if wanted.dtype == bool:
        return float((found != wanted).mean())
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), np.finfo(np.float32).tiny))
