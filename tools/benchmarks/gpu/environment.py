"""What the figures were measured on."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from possam.layers.deformable_attention_sampling import triton_works

PACKAGES = ("torch", "torchvision", "triton", "timm", "open_clip_torch", "segment-anything", "numpy")
MODULES = ("triton", "segment_anything", "open_clip", "timm", "fvcore", "iopath", "yacs", "pycocotools", "scipy", "cv2",
           "zlib_ng", "rich", "tabulate", "huggingface_hub", "safetensors", "ftfy", "regex")  # fmt: skip


def run(bench: Bench) -> None:
    bench.step("versions", _versions, least=0)
    if bench.cuda:
        bench.step("device", _device, least=0)
        bench.step("Triton", lambda: {"starts": triton_works()}, least=0)


def _versions() -> dict[str, Any]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    return {"python": platform.python_version(), **found, "missing": ", ".join(missing) or "none"}


def _device() -> dict[str, Any]:
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "memory": f"{about.total_memory / 2**20:,.0f} MiB",
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
