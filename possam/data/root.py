"""Where the datasets lie."""

from __future__ import annotations

import os
from pathlib import Path

from possam.utils.files import full_path

__all__ = ["datasets_root"]


def datasets_root(root: str | Path | None = None) -> Path:
    """`root`, or else the environment's DETECTRON2_DATASETS, or else `datasets`."""
    return full_path(root or os.environ.get("DETECTRON2_DATASETS") or "datasets")
