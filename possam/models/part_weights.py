"""Weights of parts of a model that come from files of their own, and are saved with the model all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import possam.decoders
from possam.encoders.base import SHIPPED, shipped_file
from possam.encoders.state_dicts import differences, not_finite, read_state_dict
from possam.models.converters import rename_published

__all__ = ["load_part_weights"]

_SHIPPED_FILES = {"prompt_encoder": Path(possam.decoders.__file__).parent / "weights" / "mini_sam_decoder.safetensors"}
"""Weights that come with the package, by role: the miniature world's SAM without its image encoder
(tools/pretrain_mini_sam_decoder.py)."""


def load_part_weights(
    parts: Mapping[str, nn.Module], path: str | Path, *, role: str, names: Sequence[str], starts: Sequence[str] = ()
) -> bool:
    """Load some modules of a model from a file: one of this project, or a published one of the same parts.

    Args:
        parts: modules by the name of their attribute in the model, by which a file of this project calls them.
        path: the file, or "shipped" for the one that comes with the package.
        role: `MODEL.<ROLE>.WEIGHTS` in messages.
        names: the modules that the file must hold whole.
        starts: others that take what the file happens to have of them as their initial values; of a table with more
            rows than theirs, the first ones.

    Returns:
        Whether it is a published file, whose tensors have other names than here.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or does not hold these modules in these sizes.
    """
    key = f"MODEL.{role.upper()}.WEIGHTS"
    if path == SHIPPED:
        path = shipped_file(_SHIPPED_FILES, role, key=key)
    given = read_state_dict(Path(path), kind=role)
    state = rename_published(given)
    for name in names:
        own = _under(name, state)
        expected = parts[name].state_dict()
        if problems := differences(expected, own):
            found = "nothing of it" if not own else problems
            raise ValueError(f"{key} {path} must hold the model's {name}, but has {found}; give another file.")
        if wrong := not_finite(own):
            raise ValueError(f"{key} {path} holds values that are NaN or infinite: {wrong}; get the file again.")
        _copy(parts[name], own)
    for name in starts:
        own = _under(name, state)
        expected = parts[name].state_dict()
        shown = {each: own[each][: len(value)] for each, value in expected.items() if each in own and value.dim()}
        _copy(parts[name], {each: value for each, value in shown.items() if value.shape == expected[each].shape})
    return state.keys() != given.keys()


def _under(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that belongs to a module of this name."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


@torch.no_grad()
def _copy(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    own = module.state_dict(keep_vars=True)
    for key, value in values.items():
        if not own[key].is_meta:
            own[key].copy_(value)
