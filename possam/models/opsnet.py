"""OPSNet: Mask2Former on a trained backbone, whose queries look at a frozen CLIP (METHOD.md 2; arXiv:2303.11324)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from possam.backbones import TrainedBackbone, backbone_names, build_backbone, check_backbone
from possam.classifiers import CosineClassifier, QueryEmbedding
from possam.classifiers.ensembles import EmbeddingModulation, class_similarity
from possam.config import Choice, Key
from possam.config.key import divisor_of, fraction, positive
from possam.d2.config import CfgNode, configurable
from possam.decoders import DeformablePixelDecoder, MaskDecoder, MaskPrediction
from possam.encoders import FrozenCLIP
from possam.models.base import Features, OpenVocabularySegmenter
from possam.models.compiled import compile_parts
from possam.models.parts import (
    CLIP_KEYS,
    CRITERION_KEYS,
    MASK_DECODER_KEYS,
    check_iou_weight,
    mask_decoder_from_config,
    pixel_decoder_from_config,
    shared_arguments,
)
from possam.models.spec import register_model
from possam.vocabulary import Vocabulary

_KEYS = (
    Key("MODEL.BACKBONE.NAME", "resnet50", Choice(backbone_names), resume="fixed", help="trained backbone"),
    Key("MODEL.BACKBONE.WEIGHTS", "", machine=True, path=True,
        help="what its training starts from: torchvision's or timm's file; shipped: the miniature's; empty: random"),
    Key("MODEL.BACKBONE.DROP_PATH_RATE", 0.0, fraction, resume="effective",
        help="stochastic depth of a Swin transformer at its last block"),
    Key("SOLVER.BACKBONE_MULTIPLIER", 0.1, positive, resume="effective", help="factor of the backbone's learning rate"),
    Key("MODEL.OPSNET.CROSS_ATTENTION", True, resume="fixed", help="let queries attend to CLIP's features"),
    Key("MODEL.OPSNET.NHEADS", 8, divisor_of("MODEL.MASK_FORMER.HIDDEN_DIM"), resume="fixed",
        only_if=(("MODEL.OPSNET.CROSS_ATTENTION", True),), help="heads of that attention"),
    Key("MODEL.OPSNET.LABEL_EMBEDDING", "modulated", Choice(["modulated", "query"]), resume="effective",
        help="what labels of images are compared with: modulated or query embeddings"),
    Key("MODEL.OPSNET.TEMPERATURE", 0.01, positive, resume="fixed", help="fixed temperature of the class logits"),
)  # fmt: skip


def check_config(cfg: CfgNode) -> None:
    """Raise ValueError for weights that are not the backbone's, or an IoU head that is not trained."""
    backbone = cfg.MODEL.BACKBONE
    check_backbone(key="MODEL.BACKBONE", name=backbone.NAME, weights=backbone.WEIGHTS)
    check_iou_weight(cfg)


@register_model(
    encoders={"clip": FrozenCLIP},
    keys=(*CLIP_KEYS, *MASK_DECODER_KEYS, *CRITERION_KEYS, *_KEYS),
    check_config=check_config,
    exportable=True,
)
class OPSNet(OpenVocabularySegmenter):
    """Open-vocabulary panoptic segmentation with embedding modulation (METHOD.md 2).

    Embedding modulation is the ensemble `modulation`; mask filtering is `TEST.MASK_FILTER`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: TrainedBackbone,
        clip: FrozenCLIP,
        pixel_decoder: DeformablePixelDecoder,
        mask_decoder: MaskDecoder,
        query_embedding: QueryEmbedding,
        classifier: CosineClassifier,
        label_embedding: Literal["modulated", "query"] = "modulated",
        compiled: bool = False,
        **shared: Any,
    ) -> None:
        """
        Args:
            backbone: trained with the model and saved with it; its maps of strides 4 to 32 go to the pixel decoder.
            clip: its last map, projected to CLIP's joint space, is what queries attend to and masks are pooled from.
            label_embedding: what labels of images are compared with (METHOD.md 2.9).
            compiled: run the backbone, CLIP and the decoders through torch.compile.
            shared: of `OpenVocabularySegmenter`.
        """
        super().__init__(**shared)
        self.backbone = backbone
        self.clip = clip
        self.pixel_decoder = pixel_decoder
        self.mask_decoder = mask_decoder
        self.query_embedding = query_embedding
        self.classifier = classifier
        self.label_embedding = label_embedding
        self.reads = {"clip": (clip.final_stride,)}
        if compiled:
            compile_parts(backbone, clip, pixel_decoder, mask_decoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration."""
        model = cfg.MODEL
        clip = FrozenCLIP.build(
            name=model.CLIP.NAME,
            weights=model.CLIP.WEIGHTS,
            input_scale=model.CLIP.INPUT_SCALE,
            pool_position=False,  # METHOD.md 2.3
        )
        backbone = build_backbone(
            name=model.BACKBONE.NAME,
            weights="" if model.WEIGHTS else model.BACKBONE.WEIGHTS,  # a checkpoint has the backbone's too
            lr_factor=cfg.SOLVER.BACKBONE_MULTIPLIER,
            drop_path_rate=model.BACKBONE.DROP_PATH_RATE,
        )
        return {
            "backbone": backbone,
            "clip": clip,
            "pixel_decoder": pixel_decoder_from_config(cfg, backbone.out_channels),
            "mask_decoder": mask_decoder_from_config(cfg),
            "query_embedding": QueryEmbedding(
                channels=model.MASK_FORMER.HIDDEN_DIM,
                embed_dim=clip.embed_dim,
                heads=model.OPSNET.NHEADS,
                cross_attention=model.OPSNET.CROSS_ATTENTION,
            ),
            "classifier": CosineClassifier(embed_dim=clip.embed_dim, temperature=model.OPSNET.TEMPERATURE),
            "label_embedding": model.OPSNET.LABEL_EMBEDDING,
            "compiled": model.COMPILE,
            **shared_arguments(cfg, clip),
        }

    def decode(self, features: Features) -> tuple[list[MaskPrediction], Tensor]:
        mask_features, scales = self.pixel_decoder(features["backbone"])
        return self.mask_decoder(mask_features, scales), mask_features

    def embed_masks(self, layers: list[MaskPrediction], mask_features: Tensor, features: Features) -> Tensor:
        cells = self.clip.project(features["clip"][self.clip.final_stride].movedim(1, -1))
        queries, masks = [layer.queries for layer in layers], [layer.mask_logits for layer in layers]
        return self.query_embedding.embed_layers(queries, masks, cells)

    def embed_for_labels(
        self, embeddings: Tensor, mask_logits: Tensor, features: Features, vocabularies: list[Vocabulary]
    ) -> Tensor:
        """E_m, with s between an image's own vocabulary and the training vocabulary, or E_q, by `label_embedding`."""
        if self.label_embedding == "query":
            return embeddings
        modulation = self.find_ensemble("modulation")
        assert isinstance(modulation, EmbeddingModulation)
        clip, empty = self.embed_masks_by_clip(mask_logits, features)
        train = self._text(self.train_vocabulary)
        similarity = [class_similarity(self._text(vocabulary), train) for vocabulary in vocabularies]
        return torch.stack([modulation.fuse(*of) for of in zip(embeddings, clip, empty, similarity, strict=True)])
