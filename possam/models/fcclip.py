"""FC-CLIP: one frozen convolutional CLIP is backbone and classifier (METHOD.md 4; arXiv:2308.02487)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from possam.classifiers import CosineClassifier, MaskPooledEmbedding
from possam.config import Key
from possam.d2.config import CfgNode, configurable
from possam.decoders import DeformablePixelDecoder, MaskDecoder, MaskPrediction
from possam.encoders import FrozenCLIP
from possam.models.base import Features, OpenVocabularySegmenter
from possam.models.compiled import compile_parts
from possam.models.parts import (
    CLIP_KEYS,
    CRITERION_KEYS,
    MASK_DECODER_KEYS,
    mask_decoder_from_config,
    pixel_decoder_from_config,
    shared_arguments,
)
from possam.models.spec import register_model
from possam.necks import LastLevelPool

_ENSEMBLE_ON_VALID_MASK = Key(
    "MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK", False, help="leave masks without a cell of CLIP's to the class head alone"
)


@register_model(
    encoders={"clip": FrozenCLIP},
    keys=(*CLIP_KEYS, *MASK_DECODER_KEYS, *CRITERION_KEYS, _ENSEMBLE_ON_VALID_MASK),
    exportable=True,
)
class FcClip(OpenVocabularySegmenter):
    """Mask2Former's decoders over the stages of a frozen CLIP (METHOD.md 4).

    Real FC-CLIP registers "FCCLIP" in Detectron2's registry; this class has another name, so that both can be imported.
    """

    @configurable
    def __init__(
        self,
        *,
        clip: FrozenCLIP,
        neck: LastLevelPool,
        pixel_decoder: DeformablePixelDecoder,
        mask_decoder: MaskDecoder,
        class_head: MaskPooledEmbedding,
        classifier: CosineClassifier,
        ensemble_on_valid_mask: bool = False,
        compiled: bool = False,
        **shared: Any,
    ) -> None:
        """
        Args:
            clip: a ConvNeXt or a ModifiedResNet. A ConvNeXt's last map is pooled by its mean inside a mask, a
                ModifiedResNet's by its own attention pool over the mask's cells.
            neck: the stages' maps to strides 4, 8, 16 and 32.
            ensemble_on_valid_mask: leave a mask without a cell at CLIP's resolution to the in-vocabulary classifier
                alone; else its CLIP embedding counts, though it means nothing (as published for ConvNeXt).
            compiled: run the encoder and the decoders through torch.compile.
            shared: of `OpenVocabularySegmenter`.
        """
        super().__init__(**shared)
        self.clip = clip
        self.neck = neck
        self.pixel_decoder = pixel_decoder
        self.mask_decoder = mask_decoder
        self.class_head = class_head
        self.classifier = classifier
        self.ensemble_on_valid_mask = ensemble_on_valid_mask
        self.reads = {"clip": tuple(sorted({*neck.in_strides, clip.final_stride}))}
        if compiled:
            compile_parts(clip, pixel_decoder, mask_decoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration."""
        model = cfg.MODEL
        clip = FrozenCLIP.build(name=model.CLIP.NAME, weights=model.CLIP.WEIGHTS, input_scale=model.CLIP.INPUT_SCALE)
        neck = LastLevelPool(in_channels=clip.out_channels)
        return {
            "clip": clip,
            "neck": neck,
            "pixel_decoder": pixel_decoder_from_config(cfg, neck.out_channels),
            "mask_decoder": mask_decoder_from_config(cfg),
            "class_head": MaskPooledEmbedding(channels=model.MASK_FORMER.HIDDEN_DIM, embed_dim=clip.embed_dim),
            "classifier": CosineClassifier(embed_dim=clip.embed_dim),
            "ensemble_on_valid_mask": model.FC_CLIP.ENSEMBLE_ON_VALID_MASK,
            "compiled": model.COMPILE,
            **shared_arguments(cfg, clip),
        }

    def decode(self, features: Features) -> tuple[list[MaskPrediction], Tensor]:
        mask_features, scales = self.pixel_decoder(self.neck(features["clip"]))
        return self.mask_decoder(mask_features, scales), mask_features

    def embed_masks(self, layers: list[MaskPrediction], mask_features: Tensor, features: Features) -> Tensor:
        return self.embed_layers(self.class_head, layers, mask_features, features)

    def embed_masks_by_clip(self, mask_logits: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        if self.clip.has_attention_pool:
            embeddings, empty = self.clip.pool_attentively(features["clip"][self.clip.final_stride], mask_logits)
        else:
            embeddings, empty = super().embed_masks_by_clip(mask_logits, features)
        return embeddings, empty if self.ensemble_on_valid_mask else torch.zeros_like(empty)
