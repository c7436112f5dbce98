"""Published checkpoints of other projects: recognized by their tensors and turned into models of ours.

A converter is one file here with `@register_converter`; nothing else names a published model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from possam.config import SavedConfig
from possam.encoders.state_dicts import differences, not_finite

# The converters register themselves.
from possam.models.converters import fcclip as _fcclip  # noqa: F401
from possam.models.converters import ovsam as _ovsam  # noqa: F401
from possam.models.converters.downloads import download_published
from possam.models.converters.foreign import describe_foreign
from possam.models.converters.registry import Converted, Converter, converters, register_converter
from possam.models.spec import model_spec
from possam.models.state import read_checkpoint
from possam.utils.files import file_sha256
from possam.utils.messages import few

if TYPE_CHECKING:
    from possam.models.base import OpenVocabularySegmenter

__all__ = [
    "Converted",
    "Converter",
    "adapt_checkpoint",
    "check_published",
    "convert_checkpoint",
    "converters",
    "download_published",
    "read_published",
    "register_converter",
    "rename_published",
]


def convert_checkpoint(checkpoint: Mapping[str, Any], source: str | Path) -> Converted | None:
    """Convert a published checkpoint; None for one of this project's own, and for one that nothing is known of.

    Args:
        checkpoint: as `read_checkpoint` gives it; is not changed.
        source: what messages call it.

    Raises:
        ValueError: it is known and cannot be loaded, or is incomplete; says what it is and what to do.
    """
    if "frozen" in checkpoint:
        return None
    state = checkpoint["model"]
    if state and all(key.startswith("module.") for key in state):  # saved from a DistributedDataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if foreign := describe_foreign(state):
        raise ValueError(f"{source} cannot be loaded: it is {foreign}.")
    converter = next((converter for converter in converters() if converter.recognizes(state)), None)
    if converter is None:
        return None
    try:
        converted = converter.convert(state)
    except ValueError as error:
        raise ValueError(f"{source} looks like a checkpoint of {converter.name}, but {error}") from error
    trained_on = [file.train_vocabulary for file in converter.files if file.filename == Path(source).name]
    return replace(converted, train_vocabulary=trained_on[0]) if any(trained_on) else converted


def rename_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by the names of the model of this project that it is of; those of any other
    as they are."""
    converter = next((one for one in converters() if one.rename is not None and one.recognizes(state)), None)
    return dict(state) if converter is None or converter.rename is None else dict(converter.rename(state))


def adapt_checkpoint(model: OpenVocabularySegmenter, checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """A published checkpoint as one of the model's own; any other as it is.

    Raises:
        ValueError: as `convert_checkpoint`, or it is not of this model.
    """
    converted = convert_checkpoint(checkpoint, source)
    if converted is None:
        return checkpoint
    converted.check_model(model, source)
    return converted.as_checkpoint(model, source)


def read_published(path: Path) -> Converted:
    """Read and convert a published checkpoint.

    Raises:
        ValueError: it is damaged, incomplete or no published checkpoint that can be loaded.
    """
    checkpoint = read_checkpoint(path)
    converted = convert_checkpoint(checkpoint, path)
    if converted is not None:
        return converted
    known, names = ", ".join(converter.name for converter in converters()), list(checkpoint["model"])
    if "frozen" in checkpoint:
        what = (
            "It holds parameters of this project without their configuration: `possam share` makes a "
            "folder of a trainer's checkpoint and its config.yaml"
        )
    else:
        what = f"It is of no known model: it holds {len(names)} tensors, such as {few(names)}"
    raise ValueError(
        f"{path} is a file; expected the folder that save_pretrained has written, or a published checkpoint of "
        f"{known}. {what}."
    )


def check_published(path: Path) -> str:
    """Check a published checkpoint against the model that it is of: names, shapes, and that all values are finite.

    Returns:
        A sentence that says what it is.

    Raises:
        ValueError: as `read_published`, or its tensors are not those of the model.
    """
    converted = read_published(path)
    wrong = differences(_expected(converted), converted.parameters)
    wrong = wrong or (f"values are NaN or infinite: {values}" if (values := not_finite(converted.parameters)) else "")
    if wrong:
        raise ValueError(f"{path} is not whole: it is {converted.what}, but {wrong}. Fetch it again.")
    numbers = sum(value.numel() for value in converted.parameters.values())
    return (
        f"{path} is {converted.what}, and whole: {len(converted.parameters)} tensors with {numbers:,} parameters have "
        "the names and shapes of the model, and finite values. No checksum of it is published to compare with (sha256 "
        f"{file_sha256(path)})."
    )


def _expected(converted: Converted) -> dict[str, torch.Tensor]:
    """The trained parameters of the model, without values."""
    cfg = SavedConfig(converted.settings, source=converted.what).over_defaults()
    spec = model_spec(converted.architecture)
    cfg.MODEL.TRAIN_VOCABULARY = converted.train_vocabulary
    unread = [*spec.weights.values(), *spec.part_weights.values(), "MODEL.TEXT_CACHE"]
    cfg.merge_from_list([part for key in unread for part in (key, "")])
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of random weights, which are on purpose here
    try:
        with torch.device("meta"):
            expected = spec.build(cfg).state_dict()
            return {key: value for key, value in expected.items() if spec.part_of(key) not in converted.parts}
    finally:
        logging.disable(before)
