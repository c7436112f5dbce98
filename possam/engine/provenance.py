"""Record the origin of a result: configuration, commit, versions and weights, enough to repeat it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import possam
from possam.d2 import BACKEND
from possam.d2.config import CfgNode
from possam.models.state import describe_frozen
from possam.utils.files import file_sha256

__all__ = ["git_commit", "parameters_sha256", "provenance", "versions"]

_PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "open_clip": "open_clip_torch",
    "numpy": "numpy",
    "pycocotools": "pycocotools",
    "faster-coco-eval": "faster-coco-eval",
}
"""Name in a report → name of the distribution."""


def provenance(cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """Plain data, for JSON, about what is about to be scored.

    Args:
        cfg: the resolved configuration.
        model: a system; its frozen encoders are not part of its state.

    Returns:
        "date" (UTC, ISO 8601), "commit" (`git_commit`), "versions", "seed" (`SEED`; negative: none was set),
        "checkpoint": the file `MODEL.WEIGHTS` names and its sha256, or None; "parameters": sha256 of the trained
        parameters as they are scored, which differ from the checkpoint's after a training; "frozen": what
        identifies each encoder; "ensemble": its name and constants; "config": all settings.
    """
    name = cfg.MODEL.ENSEMBLE.NAME
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "versions": versions(),
        "seed": cfg.SEED,
        "checkpoint": _checkpoint(cfg.MODEL.WEIGHTS),
        "parameters": parameters_sha256(model),
        "frozen": describe_frozen(model),
        "ensemble": {"name": name, "constants": dict(cfg.MODEL.ENSEMBLE[name.upper()])},
        "config": yaml.safe_load(cfg.dump()),
    }


def versions() -> dict[str, str | None]:
    """Versions of this project and of what its numbers depend on; None for what is not installed.

    "detectron2" is "builtin" where the built-in subset takes Detectron2's place.
    """
    found = {name: _version(distribution) for name, distribution in _PACKAGES.items()}
    detectron2 = _version("detectron2") if BACKEND == "detectron2" else BACKEND
    return {"possam": possam.__version__, "python": platform.python_version(), "detectron2": detectron2, **found}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit(package: Path | None = None) -> str | None:
    """Commit of the checkout that a package is run from, with "-dirty" where tracked files were changed.

    Args:
        package: the package's folder; by default this one's.

    Returns:
        40 hex digits, perhaps with "-dirty"; None where the package does not lie at the top of a git repository, as
        when it is installed, or where there is no git.
    """
    folder = (package or Path(possam.__file__).parent).resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed package may lie in somebody else's repository, in a virtual environment for instance.
    if top is None or Path(top) != folder.parent or _git(folder, "ls-files", "__init__.py") != "__init__.py":
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder.parent, "status", "--porcelain", "--untracked-files=no")
    return commit if commit is None or not changes else f"{commit}-dirty"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def parameters_sha256(model: nn.Module) -> str:
    """sha256 (hex) of a model's state as a checkpoint would hold it: names, shapes, types and values."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checkpoint(weights: str) -> dict[str, Any] | None:
    if not weights:
        return None
    return {"path": weights, "sha256": file_sha256(weights) if Path(weights).is_file() else None}
