"""A trained model to a folder of programs that run without this package."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import possam
from possam.encoders.state_dicts import digest_tensors
from possam.export.formats import FORMATS, check_formats
from possam.export.programs import Program, decoder_program, encoder_program, scorer_program
from possam.export.rows import export_classes
from possam.export.signature import signature_of
from possam.models import OpenVocabularySegmenter, model_spec, model_specs
from possam.models.batch import PADDING
from possam.models.state import describe_frozen
from possam.utils.files import file_sha256, write_json
from possam.vocabulary import Vocabulary

__all__ = ["CLASSES", "DESCRIPTION", "export_model"]

logger = logging.getLogger(__name__)

DESCRIPTION = "export.json"
CLASSES = "classes.npz"
_VERSION = 2  # 1 had query_embeddings, query_logits and query_scale for query_…
_PACKAGES = ("torch", "onnx", "onnxscript")
_SIDE = PADDING


def export_model(
    model: OpenVocabularySegmenter,
    folder: str | Path,
    *,
    formats: Sequence[str] = ("pt2", "onnx"),
    vocabulary: Vocabulary | None = None,
    image_size: int | None = None,
) -> Path:
    """Write a model as programs of `torch.export` and ONNX, with all that is needed to run them.

    The folder gets encoder, decoder and scorer (`possam.export.programs`) in each format, the text embeddings of a
    vocabulary as classes.npz, and export.json, which says what each program takes and gives. The number of images, of
    names and of classes is free; the side of the square images is not.

    Args:
        model: trained, on the CPU; it is put in eval mode.
        folder: made if it does not exist; files of an earlier export are replaced.
        formats: some of `FORMATS`.
        vocabulary: whose text embeddings to write; by default the one the model was trained on. Others can be written
            at any time with `export_classes`.
        image_size: S, side in pixels of the images; by default the model's own, which a model that is tested at another
            shape than squares has not.

    Returns:
        The folder.

    Raises:
        ValueError: a system that cannot be exported, an unknown format, packages missing, a folder that cannot be
            written, a size that is no multiple of 32 or not given, a model on another device.
    """
    if not (spec := model_spec(type(model).__name__)).exportable:
        able = ", ".join(each.name for each in model_specs() if each.exportable)
        raise ValueError(f"a {spec.name} cannot be exported; systems that can: {able}. Use possam.Predictor instead.")
    if model.image_embedder is not None:
        raise ValueError(
            "a model that passes every mask through CLIP cannot be exported; set MODEL.CLIP.MASK_EMBEDDING pooling."
        )
    chosen = check_formats(formats)
    if image_size is None and model.shortest_edge:
        raise ValueError(
            "programs take square images, and this model is tested on images whose shorter side has "
            f"{model.shortest_edge[0]} pixels (INPUT.RESIZE_TEST); give image_size (--image-size), such as "
            f"{model.image_size}, and expect results of that size."
        )
    side = model.image_size if image_size is None else image_size
    if side < _SIDE or side % _SIDE:
        raise ValueError(f"image_size is {side}, but must be a positive multiple of {_SIDE}.")
    if model.device.type != "cpu":
        raise ValueError(f"the model is on {model.device}; bring it to the CPU with model.cpu() before exporting it.")
    model.eval()
    target = _writable(Path(folder))
    with tempfile.TemporaryDirectory(dir=target, prefix=".export.") as name:
        made = Path(name)
        programs = _write_programs(model, made, chosen, side)
        export_classes(model, vocabulary or model.train_vocabulary, made / CLASSES)
        files = {path.name: file_sha256(path) for path in sorted(made.iterdir())}
        _replace(made, target, files)
    write_json(target / DESCRIPTION, _describe(model, side) | {"programs": programs, "sha256": files})
    return target


def _replace(made: Path, target: Path, files: Collection[str]) -> None:
    """Move the new files to the folder, in the place of all files of an earlier export."""
    if (target / DESCRIPTION).exists():
        # It vouches for the other files: it goes first and comes last.
        (target / DESCRIPTION).unlink()
        stale = {path for file in files for path in target.glob(f"{Path(file).stem}.*") if path.name not in files}
        for path in stale:
            path.unlink()
    for file in files:
        os.replace(made / file, target / file)


def _write_programs(model: OpenVocabularySegmenter, folder: Path, formats: Sequence[str], side: int) -> dict[str, Any]:
    """Export the three programs one after the other, so that only one is in memory; what export.json says of them."""
    programs: dict[str, Any] = {}
    for build in (encoder_program, decoder_program, scorer_program):
        # what a program gives is what the next one takes
        features = {spec["name"]: spec["shape"][1:] for each in programs.values() for spec in each["outputs"]}
        program = build(model, side, features)
        programs[program.name] = _write_program(program, folder, formats)
    return programs


def _write_program(program: Program, folder: Path, formats: Sequence[str]) -> dict[str, Any]:
    logger.info("Exporting the %s", program.name)
    exported = program.export()
    signature = signature_of(exported, program.inputs, program.dynamic)
    files = {
        name: [path.name for path in FORMATS[name].write(exported, signature, folder / program.name)]
        for name in formats
    }
    return {
        "files": files,
        "inputs": [asdict(spec) for spec in signature.inputs],
        "outputs": [asdict(spec) for spec in signature.outputs],
    }


def _describe(model: OpenVocabularySegmenter, side: int) -> dict[str, Any]:
    """What export.json says of the model and of the image it takes."""
    return {
        "version": _VERSION,
        "packages": {"possam": possam.__version__} | {name: _installed(name) for name in _PACKAGES},
        "image": {
            "size": side,
            "channels": "RGB",
            "range": [0, 255],
            "resize": "longer side to size, bilinear",
            "pad": "right and bottom",
            "pad_color": model.pad_color.flatten().tolist(),
        },
        "constants": {
            "ensemble": model.ensemble,
            "query_scale": model.classifier.scale.item(),
            "clip_scale": model.clip.logit_scale,
            "object_threshold": model.postprocessor.object_threshold,
            "overlap_threshold": model.postprocessor.overlap_threshold,
        },
        "fingerprints": {
            "frozen": describe_frozen(model),
            "trained": digest_tensors(model.state_dict()),
            "text": model.clip.text_fingerprint,
            "train_vocabulary": model.train_vocabulary.sha256,
        },
        "classes": CLASSES,
    }


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _writable(folder: Path) -> Path:
    """The folder, made and tried before the minutes of an export are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}); choose another folder.") from error
