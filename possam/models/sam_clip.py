"""Frozen SAM and CLIP, the baseline of Open-Vocabulary SAM: SAM segments, CLIP classifies (METHOD.md 3.8).

Shapes: N prompts of an image, D width of CLIP's joint space; H×W the padded image, h×w = H/4×W/4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.classifiers import FixedCosineClassifier
from possam.config import Choice, Key
from possam.config.key import count, not_negative
from possam.d2.config import CfgNode, configurable
from possam.decoders import PromptedDecoder
from possam.decoders.prompt_decoding import best_masks, decode_prompts
from possam.encoders import FrozenCLIP, FrozenSAM
from possam.inference import boxes_of_masks
from possam.layers.prompts import Prompts
from possam.models.base import Features
from possam.models.part_weights import load_part_weights
from possam.models.parts import CLIP_KEYS, SAM_KEYS, shared_arguments
from possam.models.prompted import PromptedSegmenter
from possam.models.spec import register_model

if TYPE_CHECKING:  # importing it takes seconds
    from possam.decoders import PromptEncoder

__all__ = ["SamClip"]

PARTS = {"prompt_encoder": ("prompt_encoder", "mask_decoder")}
_IMAGE = "image"  # role of the padded image among the features, whose stride is 1


@register_model(
    encoders={"sam": FrozenSAM, "clip": FrozenCLIP},
    parts=PARTS,
    keys=(
        *SAM_KEYS,
        *CLIP_KEYS,
        Key("MODEL.PROMPT_ENCODER.WEIGHTS", "", machine=True, path=True,
            help="SAM's file: weights of prompt encoder and mask decoder; shipped: the miniature's; empty: random"),
        Key("MODEL.SAM_CLIP.NHEADS", 8, count, resume="fixed", help="heads of the mask decoder's attention"),
        Key("MODEL.SAM_CLIP.DIM_FEEDFORWARD", 0, not_negative, resume="fixed",
            help="hidden width of the mask decoder; 0: 8 times its channels, as SAM's"),
        Key("MODEL.SAM_CLIP.REGION", "crop", Choice(["crop", "features"]),
            help="what CLIP names: the image under the mask, or its dense features under it"),
        Key("MODEL.SAM_CLIP.MULTIMASK", True,
            help="a single point gives the best of SAM's three candidate masks; else mask 0, as all other prompts"),
    ),
)  # fmt: skip
class SamClip(PromptedSegmenter):
    """SAM's encoder, prompt encoder and mask decoder, and a CLIP, all frozen: nothing is trained.

    With "crop" a mask is named by CLIP's image embedding of the image under the mask: the pixels outside have CLIP's
    mean color, and the box of the mask is resized to the square that CLIP was trained on **(ours; the paper says only
    "resized")**. With "features" it is named by CLIP's dense features under the mask: by the tower's attention pool
    over the mask's cells, or their projected mean where it has none.
    """

    trainable = False

    @configurable
    def __init__(
        self,
        *,
        sam: FrozenSAM,
        clip: FrozenCLIP,
        prompt_encoder: PromptEncoder,
        mask_decoder: PromptedDecoder,
        crops: bool = True,
        multimask: bool = True,
        **shared: Any,
    ) -> None:
        """
        Args:
            crops: name the image under the masks; else CLIP's features under them.
            multimask: take the best by estimated IoU of SAM's candidates for a single point.
            shared: of `OpenVocabularySegmenter`.
        """
        super().__init__(**shared)
        self.sam = sam
        self.clip = clip
        self.prompt_encoder = prompt_encoder.requires_grad_(False)
        self.mask_decoder = mask_decoder.requires_grad_(False)
        self.classifier = FixedCosineClassifier(embed_dim=clip.embed_dim, background=False)
        self.crops = crops
        self.multimask = multimask
        self.reads = {"sam": (sam.final_stride,)}
        if not crops:
            self.reads["clip"] = (clip.final_stride,)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration."""
        from possam.decoders import PromptEncoder

        model = cfg.MODEL
        sam = FrozenSAM.build(name=model.SAM.NAME, weights=model.SAM.WEIGHTS, seed=model.SAM.SEED)
        clip = FrozenCLIP.build(name=model.CLIP.NAME, weights=model.CLIP.WEIGHTS, input_scale=model.CLIP.INPUT_SCALE)
        channels, stride = sam.out_channels[sam.final_stride], sam.final_stride
        parts: dict[str, nn.Module] = {
            "prompt_encoder": PromptEncoder(channels=channels),
            "mask_decoder": PromptedDecoder(
                embed_dim=clip.embed_dim,
                stride=stride,
                channels=channels,
                heads=model.SAM_CLIP.NHEADS,
                dim_feedforward=model.SAM_CLIP.DIM_FEEDFORWARD or 8 * channels,
                label_token=False,
            ),
        }
        for role, names in PARTS.items():
            if path := model[role.upper()].WEIGHTS:
                load_part_weights(parts, path, role=role, names=names)
        return {
            "sam": sam,
            "clip": clip,
            **parts,
            "crops": model.SAM_CLIP.REGION == "crop",
            "multimask": model.SAM_CLIP.MULTIMASK,
            **shared_arguments(cfg, clip, nn.Identity()),
        }

    def prepare(self, features: Features) -> Features:
        """SAM's image embedding, ready for the decoder, beside what CLIP reads."""
        ((stride, embedding),) = features["sam"].items()
        return {**features, "sam": {stride: embedding + self.prompt_encoder.no_mask}}

    @torch.no_grad()
    def predict_masks(
        self, features: Features, prompts: Prompts | None = None, region_boxes: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert prompts is not None and region_boxes is None
        ((stride, embedding),) = features["sam"].items()
        masks = decode_prompts(self.prompt_encoder, self.mask_decoder, embedding, prompts, stride=stride)
        assert masks.iou is not None
        best = best_masks(masks, prompts, multimask=self.multimask)
        row = torch.arange(len(best), device=best.device)
        mask_logits = masks.mask_logits[row, best].float()
        if self.crops:
            embeddings, empty = self._embed_crops(features[_IMAGE][1], mask_logits)
        elif self.clip.has_attention_pool:
            clip_features = features["clip"][self.clip.final_stride]
            embeddings, empty = (each[0] for each in self.clip.pool_attentively(clip_features, mask_logits[None]))
        else:
            embeddings, empty = (each[0] for each in self.embed_masks_by_clip(mask_logits[None], features))
        found = {
            "mask_logits": mask_logits,
            "query_embeddings": embeddings,  # nothing but CLIP names masks
            "clip_embeddings": embeddings,
            "clip_empty": empty,
            "iou": masks.iou[row, best].float().clamp(0, 1),
        }
        return {field: values[None] for field, values in found.items()}

    def _embed_crops(self, image: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's embeddings N×D of the image (1×3×H×W RGB in [0, 255]) under masks, and N bool, the empty ones."""
        inside = F.interpolate(mask_logits[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0] > 0
        empty = ~inside.flatten(1).any(1)
        height, width = image.shape[-2:]
        boxes = boxes_of_masks(inside).long()
        boxes[empty] = boxes.new_tensor([0, 0, width, height])  # their embeddings are flagged and not used
        crops = []
        for mask, (x0, y0, x1, y1) in zip(inside, boxes.tolist(), strict=True):
            crop = torch.where(mask[y0:y1, x0:x1], image[..., y0:y1, x0:x1], self.clip.pixel_mean)
            crops.append(self.clip.resize_to_native(crop))
        return self.clip.embed_images(torch.cat(crops)), empty

    def _features(
        self, batched_inputs: list[dict[str, Any]], pad_to: int | None = None
    ) -> tuple[Features, tuple[int, int]]:
        features, padded = super()._features(batched_inputs, pad_to)
        if self.crops:
            features |= {_IMAGE: {1: self._pad([inputs["image"] for inputs in batched_inputs], pad_to)}}
        return features, padded

    def losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Raise ValueError."""
        raise ValueError(f"{type(self).__name__} has nothing to train: SAM and CLIP are frozen. Evaluate it.")
