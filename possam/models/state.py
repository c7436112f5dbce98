"""What a trained model is on disk: its trained parameters, and over which frozen encoders they were trained.

A checkpoint is a dict: "model", the trained parameters by name; "frozen", what `describe_frozen` says of the encoders;
"vocabulary", the table of the classes it was trained on; and whatever a trainer adds. As a safetensors file it has the
parameters as tensors, and "frozen" as JSON among its metadata; the vocabulary is in a file beside it. Nothing here runs
code from a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from possam.encoders import FrozenEncoder
from possam.encoders.state_dicts import is_torchscript, not_finite
from possam.utils.files import write_atomically
from possam.vocabulary import Vocabulary

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_SHOWN = 5


def limits_of(model: nn.Module) -> str:
    """A sentence on the images that a model's frozen encoders cannot read; "" where they read any."""
    return next((encoder.limits for encoder in model.modules() if isinstance(encoder, FrozenEncoder)), "")


def describe_frozen(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The frozen encoders of a model by their attribute: {"sam": {"name", "fingerprint", …}, …}, as they describe
    themselves.

    The fingerprint is a sha256 of the weights themselves, whatever file they came in. It takes 0.7 s for SAM ViT-L;
    encoders remember their own.
    """
    return {role: module.describe() for role, module in model.named_modules() if isinstance(module, FrozenEncoder)}


def exclude_frozen(model: nn.Module) -> None:
    """Leave a model's frozen encoders out of its state dict, and do not ask for them when one is loaded: they come from
    files of their own."""
    model.register_state_dict_post_hook(_drop_frozen)
    model.register_load_state_dict_pre_hook(_note_prefix)
    model.register_load_state_dict_post_hook(_excuse_frozen)


def _frozen_prefixes(model: nn.Module) -> tuple[str, ...]:
    modules = model.named_modules(remove_duplicate=False)  # one encoder may have several names
    return tuple(f"{role}." for role, module in modules if isinstance(module, FrozenEncoder))


def _drop_frozen(model: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
    prefixes = tuple(prefix + role for role in _frozen_prefixes(model))
    for key in [key for key in state if prefixes and key.startswith(prefixes)]:
        del state[key]


def _note_prefix(model: nn.Module, _state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    model._load_prefix = prefix  # type: ignore[assignment]


def _excuse_frozen(model: nn.Module, incompatible: Any) -> None:
    # Missing keys are those of the module that is loaded, of which `model` may be a part.
    prefixes = tuple(f"{model._load_prefix}{role}" for role in _frozen_prefixes(model))
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.startswith(prefixes)]


def check_frozen(model: nn.Module, saved: Any, source: str) -> None:
    """Check that a model has the frozen encoders its parameters were trained over.

    Args:
        saved: what `describe_frozen` said when `source` was written.

    Raises:
        ValueError: it has others, or `saved` says nothing; names both and the settings to change.
    """
    own = describe_frozen(model)
    if not isinstance(saved, Mapping) or not all(
        isinstance(role, str) and role.replace(".", "_").isidentifier() and isinstance(entry, Mapping)
        for role, entry in saved.items()
    ):
        if not own and saved is None:
            return
        raise ValueError(
            f"{source} does not say which frozen encoders it was trained over, so whether it fits this model's is "
            "unknown. If they are the same, write it again with the entry 'frozen' that "
            "possam.models.state.describe_frozen(model) gives."
        )
    problems = [text for role in sorted({*own, *saved}) for text in _difference(role, saved.get(role), own.get(role))]
    if problems:
        raise ValueError(f"{source} was trained over {'; and over '.join(problems)}.")


def _difference(role: str, saved: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with one encoder, if anything, as the end of a sentence that starts "was trained over"."""
    word, key = role.upper(), f"MODEL.{role.upper()}"
    if saved is None or own is None:
        return [f"{_label(word, saved)}, but the model has {_label(word, own)}: it is of another architecture"]
    if saved.get("name") != own["name"]:
        fix = f"set {key}.NAME {_shown(saved.get('name'))} and {key}.WEIGHTS to its weights"
    elif saved.get("input_scale") != own.get("input_scale"):
        scales = f"at an input scale of {_shown(saved.get('input_scale'))}, but the model's is {own.get('input_scale')}"
        return [f"{_label(word, saved)} {scales}: set {key}.INPUT_SCALE, by which the encoder's own is multiplied"]
    elif saved.get("fingerprint") != own["fingerprint"]:
        fix = (
            f"these are other weights of the same encoder; set {key}.WEIGHTS (weights={{{role!r}: …}} of "
            "from_pretrained) to those it was trained with"
        )
    else:
        return []
    return [f"{_label(word, saved)}, but the model has {_label(word, own)}: {fix}"]


def _label(word: str, entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return f"no frozen {word}"
    return f"{word} {_shown(entry.get('name'))} (fingerprint {_shown(entry.get('fingerprint'))[:12]}…)"


def _shown(value: object) -> str:
    """A value of a file in a message, which must be short and can only hold whole characters."""
    return str(value).encode(errors="backslashreplace").decode()[:100]


def load_checkpoint(model: nn.Module, checkpoint: dict[str, Any], source: str) -> None:
    """Load the trained parameters of a checkpoint, which must fit the model exactly, and take them out of it.

    Parameters of half precision become the model's own precision, exactly. A model that is refused stays as it was.

    Args:
        checkpoint: as `read_checkpoint` gives it; "model" and "frozen" are removed.
        source: what messages call it.

    Raises:
        ValueError: parameters are missing, unexpected, of another shape or kind of number, or the frozen encoders are
            others.
    """
    check_frozen(model, checkpoint.pop("frozen", None), source)
    parameters = checkpoint.pop("model")
    if parameters and all(key.startswith("module.") for key in parameters):  # saved from a DistributedDataParallel
        parameters = {key.removeprefix("module."): value for key, value in parameters.items()}
    expected = model.state_dict()
    problems = [
        f"{key} has shape {tuple(parameters[key].shape)}, but the model's is {tuple(value.shape)}"
        for key, value in expected.items()
        if key in parameters and parameters[key].shape != value.shape
    ]
    problems += [
        f"{key} holds {parameters[key].dtype}, which is no {value.dtype}"
        for key, value in expected.items()
        if key in parameters and not _same_kind(parameters[key], value)
    ]
    problems += [f"{key} is missing" for key in expected if key not in parameters]
    problems += [f"{_shown(key)} is not part of the model" for key in parameters if key not in expected]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{source} does not fit the model: {'; '.join(problems[:_SHOWN])}{more}. Use the configuration it was "
            "trained with (config.yaml beside it)."
        )
    if wrong := not_finite(parameters):
        raise ValueError(
            f"{source} holds parameters that are NaN or infinite: {wrong}. Its training has diverged, or the file was "
            "changed; take an earlier checkpoint, or a lower SOLVER.BASE_LR to train again."
        )
    model.load_state_dict(parameters)


def take_vocabulary(checkpoint: dict[str, Any], source: str) -> Vocabulary | None:
    """Take the vocabulary that a checkpoint was trained on out of it; None where it does not say.

    Raises:
        ValueError: the entry is no table of classes.
    """
    table = checkpoint.pop("vocabulary", None)
    return None if table is None else Vocabulary.from_table(table, f"The training vocabulary of {source}")


def _same_kind(saved: Tensor, own: Tensor) -> bool:
    """Whether the values can be copied as they are: numbers with a fraction or numbers without one."""
    return saved.is_floating_point() == own.is_floating_point() and saved.is_complex() == own.is_complex()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of `torch.save` or a safetensors file, on the CPU, without running any code it may hold.

    Returns:
        A dict whose "model" is a dict of tensors; a bare dict of tensors becomes that entry, as does a "state_dict".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if kind := _kind_of(path):
        raise ValueError(f"{path} is not a checkpoint of tensors and plain values, but {kind}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for damaged files
        raise ValueError(
            f"{path} is not a checkpoint of tensors and plain values: its {path.stat().st_size:,} bytes are damaged, "
            f"cut short, of another format, or hold code, which was not run ({type(error).__name__})."
        ) from error
    if isinstance(content, dict) and "model" not in content:
        content = {"model": content.get("state_dict", content)}
    parameters = content["model"] if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in parameters.items()
    ):
        raise ValueError(f"{path} is not a checkpoint: it holds no tensors by name, as 'model' or by themselves.")
    odd = [key for key, value in parameters.items() if not _is_whole(value)]
    if odd:
        raise ValueError(f"{path} is not a checkpoint: {odd[0]!r:.100} is sparse, quantized or has no values.")
    return content


def _kind_of(path: Path) -> str:
    """What a file is that torch does not read as tensors, where that can be told; else ""."""
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, which a download page sends in place of a large file; fetch it in a browser"
    if is_torchscript(path):
        return "a TorchScript program, the form in which OpenAI publishes CLIP, and no segmentation model"
    if path.suffix == ".pkl":
        return "a pickle, as Detectron2's and Mask2Former's model zoos have, which may run code and is not read"
    return ""


def _is_whole(value: Tensor) -> bool:
    return value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            checkpoint: dict[str, Any] = {"model": {key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118
        if "frozen" in metadata:
            checkpoint["frozen"] = json.loads(metadata["frozen"])
    except (SafetensorError, ValueError, RecursionError) as error:  # the last two of JSON, in the header's metadata
        raise ValueError(f"{path} is not a whole safetensors file: {_state_of(path)}; get it again.") from error
    return checkpoint


def _state_of(path: Path) -> str:
    """What is there instead of a whole safetensors file, in words."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")  # the format: length of the header, header, tensors
        header = file.read(length) if length <= size else b""
    if (head + header).startswith(b"version "):
        return "it is the pointer that Git LFS leaves in its place (`git lfs pull` fetches the file)"
    if size < 8 + length:
        return f"it has {size:,} bytes, and its header does not end within them"
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
        return f"it has {size:,} bytes where its header promises {8 + length + max(ends, default=0):,}"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return f"it has {size:,} bytes, and its header is not readable"


def write_safetensors(path: str | Path, model: nn.Module, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a model's trained parameters and what its frozen encoders are, all of the file or nothing.

    Args:
        dtype: of floating-point parameters in the file, one of `DTYPES`.

    Raises:
        ValueError: another dtype, a value that it cannot hold, or one that is NaN or infinite.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}, but must be one of {', '.join(map(str, DTYPES))}.")
    if wrong := not_finite(model.state_dict()):
        raise ValueError(f"{path} is not written: the model has parameters that are NaN or infinite: {wrong}.")
    parameters: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        kept = value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype)
        if not torch.equal(kept.isfinite(), value.detach().cpu().isfinite()):
            raise ValueError(f"{key} has values up to {float(value.abs().max()):g}, which {dtype} cannot hold.")
        parameters[key] = kept.clone(memory_format=torch.contiguous_format)
    # One entry of metadata alone: safetensors writes several in random order, and equal models would differ.
    content = save(parameters, metadata={"frozen": json.dumps(describe_frozen(model))})
    write_atomically(path, lambda file: file.write(content))
