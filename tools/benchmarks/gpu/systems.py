"""The systems that cases build: random weights and text embeddings, COCO's classes (tiny: the miniature's), no file."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from growth import RandomText
from measure import sample, without_weights

from benchmarks.gpu.bench import Bench
from possam.d2.config import CfgNode
from possam.engine import Trainer, load_config, prepare_datasets
from possam.engine.step import TrainingStep
from possam.models import OpenVocabularySegmenter
from possam.vocabulary import Vocabulary

__all__ = ["SYSTEMS", "batch_of", "build", "short", "train_step"]

SYSTEMS = {
    "PosSAM-B": ("coco/possam_vit_b", "mini/possam"),
    "PosSAM-L": ("coco/possam_vit_l", "mini/possam"),
    "PosSAM-H": ("coco/possam_vit_h", "mini/possam"),
    "FC-CLIP-L": ("fcclip/convnext_large", "mini/fcclip"),
    "OPSNet-R50": ("opsnet/r50", "mini/opsnet"),
    "OPSNet-Swin-L": ("opsnet/swin_large", "mini/opsnet"),
    "OVSAM": ("ovsam/coco", "mini/ovsam"),
}
"""Configurations by the name of a system: of full size, and tiny."""
TINY = {"INPUT.IMAGE_SIZE": 64, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64}

Batch = list[dict[str, Any]]


def build(bench: Bench, system: str) -> tuple[CfgNode, OpenVocabularySegmenter]:
    """A system's settings and model on the bench's device, in evaluation."""
    settings = {"MODEL.DEVICE": str(bench.device), "SOLVER.AMP.ENABLED": "False", "DATASETS.CLASS_NAMES": ""}
    full, tiny = SYSTEMS[system]
    if bench.tiny:
        settings |= {key: str(value) for key, value in TINY.items()}
    overrides = [part for pair in settings.items() for part in pair]
    cfg = without_weights(load_config(f"configs/{tiny if bench.tiny else full}.yaml", overrides))
    prepare_datasets(cfg)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).eval()
    model.text_bank = RandomText(model.clip.embed_dim)  # type: ignore[assignment]
    model.train_vocabulary = Vocabulary.load("mini_a" if bench.tiny else "coco_panoptic")
    return cfg, model


def batch_of(bench: Bench, model: OpenVocabularySegmenter, images: int) -> Batch:
    """Random images of 1024² pixels (tiny: 64²) with square segments, 20 (tiny: 4) in each."""
    side, targets = (64, 4) if bench.tiny else (1024, 20)
    return [sample(side, targets, model.train_vocabulary) for _ in range(images)]


def train_step(
    cfg: CfgNode, model: OpenVocabularySegmenter, batch: Batch, precision: torch.dtype | None
) -> TrainingStep:
    """The training step on the same batch again and again, with an optimizer of its own."""
    return TrainingStep(
        model=model.train(),
        loader=itertools.repeat(batch),
        optimizer=Trainer.build_optimizer(cfg, model),
        clip=cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE if cfg.SOLVER.CLIP_GRADIENTS.ENABLED else math.inf,
        precision=precision,
    )


def short(dtype: torch.dtype | None) -> str:
    """The usual short name of a precision."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype or torch.float32, "fp32")
