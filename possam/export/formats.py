"""The file formats of exported programs. A new one is a function and an entry of `FORMATS`."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from possam.export.signature import Signature
from possam.utils.messages import did_you_mean

__all__ = ["FORMATS", "Format", "check_formats"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        write: (program, its signature, file without suffix) → the files written; several where weights go beside.
        needs: packages of PyPI, by the names they are imported by, beyond those the project needs anyway.
    """

    write: Callable[[ExportedProgram, Signature, Path], list[Path]]
    needs: tuple[str, ...] = ()


def _write_pt2(program: ExportedProgram, signature: Signature, stem: Path) -> list[Path]:
    path = stem.with_suffix(".pt2")
    torch.export.save(program, path)
    return [path]


def _write_onnx(program: ExportedProgram, signature: Signature, stem: Path) -> list[Path]:
    import onnx
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass

    path = stem.with_suffix(".onnx")
    with _quiet():
        model = torch.onnx.export(
            program,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            dynamo=True,
            verbose=False,
            optimize=False,
        )
        assert model is not None
        # onnxscript 0.7 gives constants of the same name to two equal clips and loses one of them: merge these first.
        CommonSubexpressionEliminationPass()(model.model)
        model.optimize()
    axes: dict[Any, str] = dict(signature.symbols)
    model.rename_axes(axes)
    model.save(path)  # weights of 2 GB and more go into a file beside: a protobuf message cannot be larger
    onnx.checker.check_model(str(path))
    return sorted(path.parent.glob(f"{path.name}*"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter says of its own workings; its errors are raised."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


FORMATS: dict[str, Format] = {
    "pt2": Format(write=_write_pt2),
    "onnx": Format(write=_write_onnx, needs=("onnx", "onnxscript")),
}


OLDEST_TORCH = "2.9"
"""The oldest PyTorch that exporting was tried with; 2.6 cannot save the programs."""


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ValueError: none, an unknown one, or a package that a format needs is not installed, or too old.
    """
    if torch.__version__ < OLDEST_TORCH:
        raise ValueError(
            f"exporting needs torch {OLDEST_TORCH} or later, but torch is {torch.__version__}: "
            "pip install --upgrade torch torchvision."
        )
    if isinstance(names, str) or not names:
        raise ValueError(f"formats must be some of [{', '.join(FORMATS)}], but got {names!r}.")
    for name in names:
        if name not in FORMATS:
            raise ValueError(
                f"there is no format {name!r} to export to; the formats are {', '.join(FORMATS)}."
                f"{did_you_mean(name, FORMATS)}"
            )
        missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
        if missing:
            raise ValueError(
                f"exporting to {name} needs {' and '.join(missing)}: pip install {' '.join(missing)} "
                "(and onnxruntime to run what is exported), or leave the format out."
            )
    return tuple(dict.fromkeys(names))
