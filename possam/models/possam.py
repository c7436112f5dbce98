"""PosSAM: frozen SAM and CLIP, a trained mask decoder, and Local Discriminative Pooling (METHOD.md 1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from possam.classifiers import CosineClassifier, check_streams
from possam.d2.config import CfgNode, configurable
from possam.decoders import MaskPrediction
from possam.encoders import FrozenCLIP, FrozenSAM
from possam.models.base import Features, OpenVocabularySegmenter
from possam.models.compiled import compile_parts
from possam.models.parts import (
    CLIP_KEYS,
    CRITERION_KEYS,
    DECODER_CHOICE_KEYS,
    EMBEDDING_KEYS,
    MASK_DECODER_KEYS,
    SAM_KEYS,
    check_iou_weight,
    decoder_from_config,
    embedding_from_config,
    shared_arguments,
)
from possam.models.spec import register_model


def check_config(cfg: CfgNode) -> None:
    """Raise ValueError for parts that do not belong together."""
    try:
        check_streams(cfg.MODEL.LDP.STREAMS)
    except (ValueError, TypeError) as error:  # TypeError: lists among the names
        raise ValueError(f"MODEL.LDP.STREAMS: {error}.") from error
    check_iou_weight(cfg)


@register_model(
    encoders={"sam": FrozenSAM, "clip": FrozenCLIP},
    keys=(*SAM_KEYS, *CLIP_KEYS, *MASK_DECODER_KEYS, *DECODER_CHOICE_KEYS, *EMBEDDING_KEYS, *CRITERION_KEYS),
    check_config=check_config,
    exportable=True,
)
class PosSAM(OpenVocabularySegmenter):
    """Open-vocabulary panoptic segmentation (METHOD.md 1; Figures 3 and 4 of the PosSAM paper)."""

    @configurable
    def __init__(
        self,
        *,
        sam: FrozenSAM,
        clip: FrozenCLIP,
        pyramid: nn.Module | None,
        pixel_decoder: nn.Module | None,
        mask_decoder: nn.Module,
        ldp: nn.Module,
        classifier: CosineClassifier,
        compiled: bool = False,
        **shared: Any,
    ) -> None:
        """
        Args:
            pyramid, pixel_decoder: F_sam to {stride: map}, and these to (F_mask, scales); both None where the
                decoder reads F_sam itself.
            mask_decoder: (F_mask, scales) to the predictions of its layers (`MaskDecoder`), or else F_sam to these and
                F_mask (`TwoWayDecoder`).
            ldp: queries, masks, F_mask and F_clip to class embeddings (`LocalDiscriminativePooling`, or what
                `MODEL.EMBEDDING.NAME` has in its place).
            compiled: run the encoders and the decoder through torch.compile.
            shared: of `OpenVocabularySegmenter`.
        """
        super().__init__(**shared)
        self.sam = sam
        self.clip = clip
        self.pyramid = pyramid
        self.pixel_decoder = pixel_decoder
        self.mask_decoder = mask_decoder
        self.ldp = ldp
        self.classifier = classifier
        self.reads = {"sam": (sam.final_stride,), "clip": (clip.final_stride,)}
        if compiled:
            compile_parts(sam, clip, pyramid, pixel_decoder, mask_decoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration."""
        model = cfg.MODEL
        sam = FrozenSAM.build(name=model.SAM.NAME, weights=model.SAM.WEIGHTS, seed=model.SAM.SEED)
        clip = FrozenCLIP.build(name=model.CLIP.NAME, weights=model.CLIP.WEIGHTS, input_scale=model.CLIP.INPUT_SCALE)
        decoder = decoder_from_config(cfg, sam)
        return {
            "sam": sam,
            "clip": clip,
            **decoder._asdict(),
            "ldp": embedding_from_config(cfg, clip, decoder.mask_decoder.mask_channels),
            "classifier": CosineClassifier(embed_dim=clip.embed_dim),
            "compiled": model.COMPILE,
            **shared_arguments(cfg, clip),
        }

    def decode(self, features: Features) -> tuple[list[MaskPrediction], Tensor]:
        sam_features = features["sam"][self.sam.final_stride]
        if self.pyramid is None or self.pixel_decoder is None:
            return self.mask_decoder(sam_features)
        mask_features, scales = self.pixel_decoder(self.pyramid(sam_features))
        return self.mask_decoder(mask_features, scales), mask_features

    def embed_masks(self, layers: list[MaskPrediction], mask_features: Tensor, features: Features) -> Tensor:
        return self.embed_layers(self.ldp, layers, mask_features, features)
