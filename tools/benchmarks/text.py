"""The text bank against open_clip's `encode_text`: COCO's 133 classes in the 14 templates, 1,862 prompts."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.case import Case, Work, largest_difference
from possam.encoders import FrozenCLIP
from possam.vocabulary import TextBank, Vocabulary
from possam.vocabulary.templates import VILD_TEMPLATES, fill_template

CLIP = "convnext_base_w_320"
_BATCH = 133


def cases(device: str) -> list[Case]:
    """Embeddings computed anew, and read from disk as every later start does."""
    against = f"open_clip {open_clip.__version__} encode_text"
    return [
        Case(
            name=f"1,862 prompts, {CLIP}, computed",
            reference=against,
            ours=lambda: _bank(device, None),
            theirs=lambda: _open_clip(device),
            error=largest_difference,
            tolerance=1e-6,
            time_target=0.35,
            runs=1,
        ),
        Case(
            name=f"1,862 prompts, {CLIP}, from disk",
            reference="computed",
            ours=lambda: _bank(device, Path(tempfile.gettempdir()) / "possam-benchmark-text"),
            theirs=lambda: _bank(device, None),
            error=largest_difference,
            tolerance=0.0,
            runs=1,
        ),
    ]


@cache
def _clip(device: str) -> FrozenCLIP:
    return FrozenCLIP.build(name=CLIP, weights=None).to(device)


def _names() -> list[str]:
    return list(Vocabulary.load("coco_panoptic").display_names)


def _bank(device: str, folder: Path | None) -> Work:
    vocabulary, clip = Vocabulary.from_names(_names()), _clip(device)
    if folder is not None:
        TextBank(encoder=clip, directory=folder).embed(vocabulary)

    def work() -> Tensor:
        clip.__dict__.pop("text_fingerprint", None)  # as a new process would, which no bank has remembered for either
        return TextBank(encoder=clip, directory=folder).embed(vocabulary).embeddings

    return work


@torch.no_grad()
def _encode(device: str) -> Tensor:
    model, tokenizer = _clip(device).model, open_clip.get_tokenizer(CLIP)
    total = torch.zeros(())
    for template in VILD_TEMPLATES:
        prompts = [fill_template(template, name) for name in _names()]
        total = total + torch.cat(
            [
                normalize(model.encode_text(tokenizer(prompts[start : start + _BATCH]).to(device)), dim=-1)
                for start in range(0, len(prompts), _BATCH)
            ]
        )
    return normalize(total, dim=-1)


def _open_clip(device: str) -> Work:
    _clip(device)
    return lambda: _encode(device)
