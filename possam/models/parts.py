"""Parts of the systems from the configuration: what its names stand for, and how each part is built.

A new neck, decoder or class embedding is a class of a lower package and one entry here. F is the last map of a
frozen encoder that masks are decoded from (F_sam in METHOD.md 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import nn

from possam.classifiers import (
    IMAGE_EMBEDDERS,
    ClipPooling,
    Ensemble,
    LocalDiscriminativePooling,
    QueryOnlyEmbedding,
    build_ensemble,
    ensemble_constants,
)
from possam.config.key import (
    Check,
    Choice,
    Key,
    ListOf,
    at_least,
    count,
    divisor_of,
    fraction,
    name,
    not_negative,
    positive,
    seed,
)
from possam.d2.config import CfgNode
from possam.d2.data import MetadataCatalog
from possam.decoders import DeformablePixelDecoder, MaskDecoder, TwoWayDecoder
from possam.encoders import FrozenCLIP, FrozenEncoder, FrozenSAM
from possam.inference import OUTPUTS, Postprocessor
from possam.losses import HungarianMatcher, ImageLabelCriterion, SetCriterion
from possam.necks import FeaturePyramid, ResampledPyramid
from possam.vocabulary import TextBank, Vocabulary


class DecoderParts(NamedTuple):
    """From F to masks. A mask decoder that reads F itself has no pyramid and no pixel decoder."""

    pyramid: nn.Module | None
    pixel_decoder: nn.Module | None
    mask_decoder: MaskDecoder | TwoWayDecoder


NECKS: dict[str, Callable[..., nn.Module]] = {"fpn": FeaturePyramid, "resample": ResampledPyramid}
"""`MODEL.NECK.NAME`: (in_channels, channels, in_stride) → module of F to {stride: map}."""


def pixel_decoder_from_config(cfg: CfgNode, in_channels: Mapping[int, int] | None = None) -> DeformablePixelDecoder:
    """The pixel decoder over maps of these channels by stride; by default all have the decoder's own."""
    mask_former, pixel = cfg.MODEL.MASK_FORMER, cfg.MODEL.SEM_SEG_HEAD
    return DeformablePixelDecoder(
        channels=mask_former.HIDDEN_DIM,
        in_channels=in_channels,
        layers=pixel.TRANSFORMER_ENC_LAYERS,
        heads=mask_former.NHEADS,
        points=pixel.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS,
        feedforward=pixel.TRANSFORMER_ENC_DIM_FEEDFORWARD,
    )


def mask_decoder_from_config(cfg: CfgNode) -> MaskDecoder:
    """Mask2Former's mask decoder."""
    mask_former = cfg.MODEL.MASK_FORMER
    return MaskDecoder(
        channels=mask_former.HIDDEN_DIM,
        queries=mask_former.NUM_OBJECT_QUERIES,
        layers=mask_former.DEC_LAYERS - 1,
        heads=mask_former.NHEADS,
        feedforward=mask_former.DIM_FEEDFORWARD,
        iou_head=mask_former.IOU_HEAD,
        iou_head_layers=mask_former.IOU_HEAD_LAYERS,
    )


def _mask2former(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    channels, stride = cfg.MODEL.MASK_FORMER.HIDDEN_DIM, encoder.final_stride
    neck = NECKS[cfg.MODEL.NECK.NAME]
    return DecoderParts(
        pyramid=neck(in_channels=encoder.out_channels[stride], channels=channels, in_stride=stride),
        pixel_decoder=pixel_decoder_from_config(cfg),
        mask_decoder=mask_decoder_from_config(cfg),
    )


def _two_way(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    mask_former = cfg.MODEL.MASK_FORMER
    mask_decoder = TwoWayDecoder(
        in_channels=encoder.out_channels[encoder.final_stride],
        in_stride=encoder.final_stride,
        channels=mask_former.HIDDEN_DIM,
        queries=mask_former.NUM_OBJECT_QUERIES,
        layers=mask_former.TWO_WAY_LAYERS,
        heads=mask_former.NHEADS,
        feedforward=mask_former.DIM_FEEDFORWARD,
        iou_head=mask_former.IOU_HEAD,
        iou_head_layers=mask_former.IOU_HEAD_LAYERS,
    )
    return DecoderParts(pyramid=None, pixel_decoder=None, mask_decoder=mask_decoder)


DECODERS: dict[str, Callable[[CfgNode, FrozenEncoder], DecoderParts]] = {
    "mask2former": _mask2former,
    "two_way": _two_way,
}
"""`MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME`."""


def _ldp(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    return LocalDiscriminativePooling(
        channels=cfg.MODEL.MASK_FORMER.HIDDEN_DIM,
        clip_channels=clip.feature_dim,
        embed_dim=clip.embed_dim,
        layers=cfg.MODEL.LDP.LAYERS,
        heads=cfg.MODEL.LDP.HEADS,
        mask_channels=mask_channels,
        streams=tuple(cfg.MODEL.LDP.STREAMS),
    )


def _clip_pooling(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    return ClipPooling(project=clip.project, channels=cfg.MODEL.MASK_FORMER.HIDDEN_DIM, embed_dim=clip.embed_dim)


def _query_only(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    return QueryOnlyEmbedding(channels=cfg.MODEL.MASK_FORMER.HIDDEN_DIM, embed_dim=clip.embed_dim)


EMBEDDINGS: dict[str, Callable[[CfgNode, FrozenCLIP, int], nn.Module]] = {
    "ldp": _ldp,
    "clip": _clip_pooling,
    "query": _query_only,
}
"""`MODEL.EMBEDDING.NAME`: how a mask gets its class embedding G; the last argument is the mask features' width."""


# Rows of the table of settings, for systems that have these parts (`register_model(keys=…)`).

_SINES = Check("a multiple of 4 (sine and cosine of row and column)", lambda channels: channels % 4 == 0)
_ROUNDS = Check(
    "1 more than a multiple of 3: the prediction of the initial queries, and a layer for each of the strides 32, 16, 8",
    lambda layers: layers % 3 == 1,
    where_read=True,
)
_MASKED = (("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "mask2former"),)
_LDP = (("MODEL.EMBEDDING.NAME", "ldp"),)

MASK_DECODER_KEYS = (
    Key("MODEL.MASK_FORMER.HIDDEN_DIM", 256, (count, _SINES), resume="fixed", help="channels of the decoders"),
    Key("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 250, count, resume="fixed", help="masks that an image can have"),
    Key("MODEL.MASK_FORMER.DEC_LAYERS", 10, (at_least(2), _ROUNDS), resume="fixed", only_if=_MASKED,
        help="predictions of the mask decoder: of the initial queries, and of every layer"),
    Key("MODEL.MASK_FORMER.NHEADS", 8, (count, divisor_of("MODEL.MASK_FORMER.HIDDEN_DIM")), resume="fixed",
        help="heads of the decoders' attention"),
    Key("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 2048, count, resume="fixed", help="hidden width of the mask decoder"),
    Key("MODEL.MASK_FORMER.IOU_HEAD", True, resume="fixed",
        help="predict every mask's IoU; else it is taken to be 1, and there is no IoU loss"),
    Key("MODEL.MASK_FORMER.IOU_HEAD_LAYERS", 3, count, resume="fixed", only_if=(("MODEL.MASK_FORMER.IOU_HEAD", True),),
        help="linear layers of the IoU head"),
    Key("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 6, count, resume="fixed", only_if=_MASKED,
        help="layers of the pixel decoder"),
    Key("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD", 1024, count, resume="fixed", only_if=_MASKED,
        help="hidden width of the pixel decoder"),
    Key("MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS", 4, count, resume="fixed", only_if=_MASKED,
        help="points that a head of the pixel decoder samples on a level"),
)  # fmt: skip
"""Mask2Former's pixel and mask decoder (`pixel_decoder_from_config`, `mask_decoder_from_config`)."""

DECODER_CHOICE_KEYS = (
    Key("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "mask2former", Choice(DECODERS), resume="fixed",
        help="mask decoder: Mask2Former's, or SAM's own two-way decoder"),
    Key("MODEL.MASK_FORMER.TWO_WAY_LAYERS", 2, count, resume="fixed", help="layers of the two-way decoder",
        only_if=(("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "two_way"),)),
    Key("MODEL.NECK.NAME", "fpn", Choice(NECKS), resume="fixed", only_if=_MASKED,
        help="from the encoder's last map to all strides: a feature pyramid, or resampling"),
)  # fmt: skip
"""A choice of decoder and neck over one map (`decoder_from_config`), beside `MASK_DECODER_KEYS`."""

CRITERION_KEYS = (
    Key("MODEL.MASK_FORMER.CLASS_WEIGHT", 2.0, not_negative, resume="effective", help="weight of the class loss"),
    Key("MODEL.MASK_FORMER.MASK_WEIGHT", 5.0, not_negative, resume="effective", help="weight of the mask loss"),
    Key("MODEL.MASK_FORMER.DICE_WEIGHT", 5.0, not_negative, resume="effective", help="weight of the Dice loss"),
    Key("MODEL.MASK_FORMER.IOU_WEIGHT", 5.0, not_negative, resume="effective", help="weight of the IoU loss",
        only_if=(("MODEL.MASK_FORMER.IOU_HEAD", True),)),
    Key("MODEL.MASK_FORMER.NO_OBJECT_WEIGHT", 0.1, not_negative, resume="effective",
        help="weight of void in the class loss"),
    Key("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 12544, count, resume="effective",
        help="points of a mask that losses and matching look at"),
    Key("MODEL.MASK_FORMER.OVERSAMPLE_RATIO", 3.0, at_least(1), resume="effective",
        help="candidates for each uncertain point"),
    Key("MODEL.MASK_FORMER.IMPORTANCE_SAMPLE_RATIO", 0.75, fraction, resume="effective",
        help="of the points, those that are uncertain; the others are random"),
    Key("MODEL.IMAGE_LABELS.MATCH_WEIGHT", 1.0, not_negative, resume="effective",
        help="of images with labels only: weight of the loss that compares masks with labels"),
    Key("MODEL.IMAGE_LABELS.SUM_WEIGHT", 1.0, not_negative, resume="effective",
        help="the same of the loss that lets masks cover every pixel once"),
    Key("MODEL.IMAGE_LABELS.IOU_THRESHOLD", 0.5, fraction, resume="effective",
        help="least IoU score of a mask that is compared with an image's labels"),
)  # fmt: skip
"""The losses over matched queries (`criterion_from_config`) and of image labels (`image_labels_from_config`)."""

EMBEDDING_KEYS = (
    Key("MODEL.EMBEDDING.NAME", "ldp", Choice(EMBEDDINGS), resume="fixed",
        help="class embedding of a mask: Local Discriminative Pooling, pooled CLIP features, or the query alone"),
    Key("MODEL.LDP.LAYERS", 2, count, resume="fixed", only_if=_LDP, help="layers of LDP"),
    Key("MODEL.LDP.HEADS", 8, (count, divisor_of("MODEL.MASK_FORMER.HIDDEN_DIM")), resume="fixed", only_if=_LDP,
        help="heads of LDP's attention"),
    Key("MODEL.LDP.STREAMS", ["sam", "clip"], ListOf(name), resume="fixed", only_if=_LDP,
        help="features that LDP pools"),
)  # fmt: skip
"""`embedding_from_config`."""

SAM_KEYS = (
    Key("MODEL.SAM.NAME", "vit_b", Choice(FrozenSAM.names), resume="fixed", help="image encoder of SAM"),
    Key("MODEL.SAM.WEIGHTS", "", path=True, help="its file; empty: random weights"),
    Key("MODEL.SAM.SEED", 0, (not_negative, seed), help="seed of random weights"),
)

CLIP_KEYS = (
    Key("MODEL.CLIP.NAME", "convnext_large_d_320", Choice(FrozenCLIP.names), resume="fixed", help="CLIP of open_clip"),
    Key("MODEL.CLIP.WEIGHTS", "", path=True, help="its file, or a tag of open_clip; empty: random weights"),
    Key("MODEL.CLIP.INPUT_SCALE", 1.0, positive, resume="fixed", help="size of the image that CLIP sees, as a factor"),
    Key("MODEL.CLIP.MASK_EMBEDDING", "pooling", Choice(["pooling", *IMAGE_EMBEDDERS]),
        help="CLIP's embedding of a mask: its features pooled, or a pass for each mask of the masked or cropped image"),
)  # fmt: skip


def decoder_from_config(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    """The modules from F to masks."""
    return DECODERS[cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME](cfg, encoder)


def embedding_from_config(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    """The module from masks and features to class embeddings."""
    return EMBEDDINGS[cfg.MODEL.EMBEDDING.NAME](cfg, clip, mask_channels)


def check_iou_weight(cfg: CfgNode) -> None:
    """Raise ValueError for an IoU head that is not trained."""
    if cfg.MODEL.MASK_FORMER.IOU_HEAD and not cfg.MODEL.MASK_FORMER.IOU_WEIGHT:
        raise ValueError(
            "MODEL.MASK_FORMER.IOU_WEIGHT is 0, so that the IoU head would stay random and still weigh the scores; "
            "leave it out with MODEL.MASK_FORMER.IOU_HEAD False."
        )


def criterion_from_config(cfg: CfgNode) -> SetCriterion:
    loss = cfg.MODEL.MASK_FORMER
    return SetCriterion(
        matcher=HungarianMatcher(
            class_weight=loss.CLASS_WEIGHT,
            mask_weight=loss.MASK_WEIGHT,
            dice_weight=loss.DICE_WEIGHT,
            points=loss.TRAIN_NUM_POINTS,
        ),
        class_weight=loss.CLASS_WEIGHT,
        mask_weight=loss.MASK_WEIGHT,
        dice_weight=loss.DICE_WEIGHT,
        iou_weight=loss.IOU_WEIGHT,
        no_object_weight=loss.NO_OBJECT_WEIGHT,
        points=loss.TRAIN_NUM_POINTS,
        oversample=loss.OVERSAMPLE_RATIO,
        importance=loss.IMPORTANCE_SAMPLE_RATIO,
    )


def image_labels_from_config(cfg: CfgNode) -> ImageLabelCriterion:
    """The losses of images that have labels only."""
    return ImageLabelCriterion(
        match_weight=cfg.MODEL.IMAGE_LABELS.MATCH_WEIGHT,
        sum_weight=cfg.MODEL.IMAGE_LABELS.SUM_WEIGHT,
        iou_threshold=cfg.MODEL.IMAGE_LABELS.IOU_THRESHOLD,
    )


def ensembles_from_config(cfg: CfgNode) -> dict[str, Any]:
    """The ensemble in use and those of `TEST.ENSEMBLES`, built from their nodes of constants."""
    names = dict.fromkeys([cfg.MODEL.ENSEMBLE.NAME, *cfg.TEST.ENSEMBLES])
    return {name: build_ensemble(name, **ensemble_constants(cfg.MODEL.ENSEMBLE, name)) for name in names}


def ensemble_from_yaml(name: str, config: str) -> Ensemble:
    """An ensemble with the constants of a configuration's YAML, or with its defaults where that has none of it.

    Raises:
        ValueError: unknown name, or a constant that is unknown or out of range.
    """
    nodes = (yaml.safe_load(config) or {}).get("MODEL", {}).get("ENSEMBLE", {})
    return build_ensemble(name, **ensemble_constants(nodes, str(name)))


def shortest_edge_from_config(cfg: CfgNode, scale: float = 1.0) -> tuple[int, int] | None:
    """The test-time size of the shorter side and the most of the longer side, in pixels, times `scale`; None where
    images are resized by their longer side."""
    if cfg.INPUT.RESIZE_TEST != "shortest_edge":
        return None
    return round(cfg.INPUT.MIN_SIZE_TEST * scale), round(cfg.INPUT.MAX_SIZE_TEST * scale)


def train_vocabulary_from_config(cfg: CfgNode) -> Vocabulary:
    """`MODEL.TRAIN_VOCABULARY`, or else the vocabulary of the first training dataset."""
    if cfg.MODEL.TRAIN_VOCABULARY:
        return Vocabulary.load(cfg.MODEL.TRAIN_VOCABULARY)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("Neither MODEL.TRAIN_VOCABULARY nor DATASETS.TRAIN is set; name the training vocabulary.")
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).vocabulary


def shared_arguments(cfg: CfgNode, clip: FrozenCLIP, criterion: nn.Module | None = None) -> dict[str, Any]:
    """Keyword arguments of `OpenVocabularySegmenter.__init__` from the configuration; the criterion is by default that
    of matched queries."""
    cache = cfg.MODEL.TEXT_CACHE
    return {
        "text_bank": TextBank(encoder=clip, directory=Path(cache) if cache else None),
        "criterion": criterion or criterion_from_config(cfg),
        "image_labels": None if criterion else image_labels_from_config(cfg),
        "ensembles": ensembles_from_config(cfg),
        "ensemble": cfg.MODEL.ENSEMBLE.NAME,
        "train_vocabulary": train_vocabulary_from_config(cfg),
        "image_size": cfg.INPUT.IMAGE_SIZE,
        "shortest_edge": shortest_edge_from_config(cfg),
        "pad_to": cfg.INPUT.IMAGE_SIZE if cfg.INPUT.PAD_TO_SQUARE else 0,
        # Tasks of other names are made of these outputs, and the evaluation asks for what they need.
        "tasks": tuple(task for task in cfg.TEST.TASKS if task in OUTPUTS),
        "postprocessor": Postprocessor(
            object_threshold=cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD,
            overlap_threshold=cfg.MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD,
            top_k=cfg.TEST.DETECTIONS_PER_IMAGE,
            void_competes=cfg.TEST.VOID_COMPETES,
            semantic_resize=cfg.TEST.SEMANTIC_RESIZE,
        ),
        "mask_filter": cfg.TEST.MASK_FILTER,
        "image_embedder": IMAGE_EMBEDDERS.get(cfg.MODEL.CLIP.MASK_EMBEDDING),
        "config": cfg.dump(),
    }
