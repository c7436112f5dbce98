"""The first training of Open-Vocabulary SAM: SAM2CLIP learns the image embedding of SAM (METHOD.md 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from possam.config import Key
from possam.d2.config import CfgNode, configurable
from possam.encoders import FrozenCLIP, FrozenSAM
from possam.models.ovsam import KEYS, OVSAM, PARTS
from possam.models.parts import SAM_KEYS
from possam.models.spec import register_model

__all__ = ["OVSAMDistillation"]


_CACHE_CLIP = Key(
    "MODEL.SAM2CLIP.CACHE_CLIP", False, machine=True, help="keep CLIP's maps, too, with INPUT.CACHE_FEATURES"
)


@register_model(encoders={"clip": FrozenCLIP, "sam": FrozenSAM}, parts=PARTS, keys=(*SAM_KEYS, *KEYS, _CACHE_CLIP))
class OVSAMDistillation(OVSAM):
    """`OVSAM` of which SAM2CLIP alone is trained, by the mean squared error to the output of SAM's image encoder.

    It reads images alone, neither instances nor prompts. With `INPUT.CACHE_FEATURES` only the teacher's features are
    kept on disk, in half precision: CLIP's maps take 45 times the space at full size and are computed every time,
    unless `MODEL.SAM2CLIP.CACHE_CLIP` keeps them, too. The position embedding is the teacher's. A checkpoint is a whole
    `OVSAM`, with SAM's own decoder if `MODEL.PROMPT_ENCODER.WEIGHTS` is set; the second training reads SAM2CLIP from it
    by `MODEL.SAM2CLIP.WEIGHTS`.
    """

    @configurable
    def __init__(self, *, sam: FrozenSAM, cache_clip: bool = False, **arguments: Any) -> None:
        """
        Args:
            sam: the teacher.
            cache_clip: whether a training keeps CLIP's maps on disk, too.
            arguments: of `OVSAM`.

        Raises:
            ValueError: SAM2CLIP has another stride or other channels than the teacher's embedding, or another width.
        """
        super().__init__(**arguments)
        self.requires_grad_(False)
        student = self.sam2clip.requires_grad_(True)
        if (student.stride, student.out_channels) != (sam.stride, sam.out_channels[sam.stride]):
            raise ValueError(
                f"SAM {sam.name}'s embedding has stride {sam.stride} and {sam.out_channels[sam.stride]} channels, but "
                f"SAM2CLIP's {student.stride} and {student.out_channels}; set MODEL.SAM2CLIP.STRIDE and "
                "MODEL.MASK_FORMER.HIDDEN_DIM to the former."
            )
        if not student.positions.is_meta:
            student.take_positions(sam.encoder.pos_embed.detach())
        self.sam = sam
        self.cache_clip = cache_clip
        self.reads = {**self.reads, "sam": (sam.stride,)}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        sam = FrozenSAM.build(name=cfg.MODEL.SAM.NAME, weights=cfg.MODEL.SAM.WEIGHTS, seed=cfg.MODEL.SAM.SEED)
        return {"sam": sam, "cache_clip": cfg.MODEL.SAM2CLIP.CACHE_CLIP, **super().from_config(cfg)}

    @property
    def cached_roles(self) -> tuple[str, ...]:
        return ("clip", "sam") if self.cache_clip else ("sam",)

    @contextmanager
    def accumulate_losses(self, batched_inputs: list[dict[str, Any]]) -> Iterator[None]:
        yield  # passes of equally many images: the mean of their means

    def losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The mean squared error over all elements, the padded border too (METHOD.md 3.2)."""
        features, _ = self._features(batched_inputs)
        student = self.sam2clip(features["clip"])
        with torch.autocast(student.device.type, enabled=False):
            return {"loss_distillation": F.mse_loss(student.float(), features["sam"][self.sam.stride].float())}
