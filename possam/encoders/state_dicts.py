"""Reading state dicts from files, telling how one differs from what a model expects, and their digests.

Files are mapped, not read: of their values only what is used comes to lie in memory. While a model made of a file
lives, the file must not be written to (that ends the process, or changes the model); another may take its place.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from possam.encoders.weight_files import WeightFile, known_file
from possam.utils.files import file_sha256

_WRAPPERS = ("state_dict", "model")  # under which training scripts keep the state dict


def read_state_dict(path: Path, *, kind: str, official: WeightFile | None = None) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or torch file, on the CPU; nothing in the file is executed.

    Args:
        kind: of what, for messages: "SAM", "CLIP".
        official: the file it is meant to be; where its name is an official one, that one is taken.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read (with the size and checksum that came, and those expected), or holds no tensors.
    """
    official = known_file(path) or official
    if not path.is_file():
        fix = f"; `possam weights download {official.name}` fetches {official.filename}" if official else ""
        raise FileNotFoundError(f"no {kind} weights at {path}: expected a file (.safetensors, .pth, .pt or .bin){fix}")
    if is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript program, the form in which OpenAI publishes CLIP; this project reads plain "
            "tensors only. Give the pretrained tag 'openai', or the file of `possam weights download RN50` (or "
            "another model's name)"
        )
    try:
        content = _load(path)
    except Exception as error:  # torch and safetensors raise a dozen types for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read {kind} weights from {path}: {reason}. {_damage(path, official)}") from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict: expected a dict of tensors by parameter name")
    if content and all(key.startswith("module.") for key in content):  # saved from a DistributedDataParallel
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def differences(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How a state dict differs from the expected one in names and shapes, a few of each; "" if it does not."""
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    kinds = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(keys)} {what}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
        for what, keys in kinds.items()
        if keys
    )


def not_finite(state: Mapping[str, Tensor]) -> str:
    """Which tensors hold NaN or infinity, and how many of their values are; a few of each; "" if none does."""
    found = []
    for key, value in state.items():
        if not value.is_floating_point() or value.is_meta or not value.numel():
            continue
        values = value.detach().float() if value.element_size() == 1 else value.detach()
        if not torch.stack(values.aminmax()).isfinite().all():  # reads once, and makes no tensor of the same size
            found.append(f"{key} ({int((~values.isfinite()).sum()):,} of {value.numel():,} values)")
    return f"{', '.join(found[:4])}{f' and {len(found) - 4} more' if len(found) > 4 else ''}"


class Unfilled(TorchFunctionMode):
    """Within it nothing fills parameters in place, as `torch.nn.init` does: their values come from a file."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")  # those of nn.init pass it by its name
        name = getattr(func, "__name__", "")
        if isinstance(tensor, nn.Parameter) and name.endswith("_") and not name.endswith(("__", "requires_grad_")):
            return tensor
        return func(*args, **kwargs)


def take_over(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Make the tensors of a fitting state dict the model's own, not copied where they have its types and device.

    A model on the meta device stays there.

    Returns:
        whether none was copied.
    """
    own = model.state_dict()
    if any(value.is_meta for value in own.values()):
        return False
    taken = {key: value.to(own[key]) for key, value in state.items()}
    model.load_state_dict(taken, assign=True)
    return all(taken[key] is value for key, value in state.items())


def digest_tensors(tensors: Mapping[str, Tensor], *about: str) -> str:
    """sha256 (hexadecimal) over names, shapes, types and values, and over what else is said `about` them.

    The order of the names, the device and the file the tensors came from do not matter.
    """
    digest = hashlib.sha256("\n".join(about).encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"\n{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    # Files of before PyTorch 1.6 are no archives, and cannot be mapped.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def is_torchscript(path: Path) -> bool:
    """Whether a file is a program rather than tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # zipfile raises several types for files that are no archives, or damaged ones
        return False


def _damage(path: Path, official: WeightFile | None) -> str:
    """What a file that cannot be read is, beside what it should be."""
    size = path.stat().st_size
    if official is None or official.size is None:
        fix = f"`possam weights download {official.name}`" if official else "copy or download it again"
        return f"The file has {size} bytes; if it was downloaded or copied in part, {fix}"
    if size == official.size:
        return (
            f"Its sha256 is {file_sha256(path)}, but that of {official.filename} is {official.sha256}: remove it and "
            f"run `possam weights download {official.name}`"
        )
    return (
        f"The file has {size} bytes (sha256 {file_sha256(path)}), but {official.filename} has {official.size} (sha256 "
        f"{official.sha256}): `possam weights download {official.name}` fetches the rest"
    )
