"""What a bug report needs to know about the machine and its libraries."""

import importlib
import os
import sys

import torch
from tabulate import tabulate

_LIBRARIES = ("numpy", "torch", "torchvision", "PIL", "cv2", "fvcore", "iopath")


def _library(name: str) -> str:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return "not installed"
    version = getattr(module, "__version__", "unknown version")
    return f"{version} @{os.path.dirname(getattr(module, '__file__', None) or '')}"


def collect_env_info() -> str:
    """A table of platform, Python, libraries and GPUs, followed by how PyTorch was built."""
    rows = [
        ("platform", sys.platform), ("Python", " ".join(sys.version.split())),
        ("Detectron2", "built-in subset of possam.d2"), *((name, _library(name)) for name in _LIBRARIES),
        ("PyTorch debug build", str(torch.version.debug)),
        ("GPU available", "yes" if torch.cuda.is_available() else "no"),
    ]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        rows.append((f"GPU {index}", torch.cuda.get_device_name(index)))
    return f"{tabulate(rows)}\n{torch.__config__.show()}"
