"""Parts of the systems from the configuration: what its names stand for, and how each part is built.

A new pyramid, decoder or class embedding is a class of a lower package and one entry here. F is the last map of a
frozen encoder that masks are decoded from (F_sam in METHOD.md 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml
from torch import nn

from possam.classifiers import ClipPooling, Ensemble, LocalDiscriminativePooling, build_ensemble
from possam.d2.config import CfgNode
from possam.d2.data import MetadataCatalog
from possam.decoders import DeformablePixelDecoder, MaskDecoder, TwoWayDecoder
from possam.encoders import FrozenCLIP, FrozenEncoder
from possam.losses import HungarianMatcher, SetCriterion
from possam.messages import did_you_mean
from possam.necks import FeaturePyramid, ResampledPyramid
from possam.vocabulary import Vocabulary


class DecoderParts(NamedTuple):
    """From F to masks. A mask decoder that reads F itself has no pyramid and no pixel decoder."""

    pyramid: nn.Module | None
    pixel_decoder: nn.Module | None
    mask_decoder: MaskDecoder | TwoWayDecoder


PYRAMIDS: dict[str, Callable[..., nn.Module]] = {"fpn": FeaturePyramid, "resample": ResampledPyramid}
"""`MODEL.PYRAMID.NAME`: (in_channels, channels, in_stride) → module of F to {stride: map}."""


def pixel_decoder_from_config(cfg: CfgNode, in_channels: Mapping[int, int] | None = None) -> DeformablePixelDecoder:
    """The pixel decoder over maps of these channels by stride; by default all have the decoder's own."""
    decoder = cfg.MODEL.DECODER
    return DeformablePixelDecoder(
        channels=decoder.CHANNELS,
        in_channels=in_channels,
        layers=decoder.PIXEL_LAYERS,
        heads=decoder.HEADS,
        points=decoder.POINTS,
        feedforward=decoder.PIXEL_FEEDFORWARD,
    )


def mask_decoder_from_config(cfg: CfgNode) -> MaskDecoder:
    """Mask2Former's mask decoder."""
    decoder = cfg.MODEL.DECODER
    return MaskDecoder(
        channels=decoder.CHANNELS,
        queries=decoder.QUERIES,
        layers=decoder.LAYERS,
        heads=decoder.HEADS,
        feedforward=decoder.FEEDFORWARD,
        iou_head=decoder.IOU_HEAD,
    )


def _mask2former(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    channels = cfg.MODEL.DECODER.CHANNELS
    pyramid = look_up("MODEL.PYRAMID.NAME", cfg.MODEL.PYRAMID.NAME, PYRAMIDS)
    stride = encoder.final_stride
    return DecoderParts(
        pyramid=pyramid(in_channels=encoder.out_channels[stride], channels=channels, in_stride=stride),
        pixel_decoder=pixel_decoder_from_config(cfg),
        mask_decoder=mask_decoder_from_config(cfg),
    )


def _two_way(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    decoder = cfg.MODEL.DECODER
    mask_decoder = TwoWayDecoder(
        in_channels=encoder.out_channels[encoder.final_stride],
        in_stride=encoder.final_stride,
        channels=decoder.CHANNELS,
        queries=decoder.QUERIES,
        layers=decoder.TWO_WAY_LAYERS,
        heads=decoder.HEADS,
        feedforward=decoder.FEEDFORWARD,
        iou_head=decoder.IOU_HEAD,
    )
    return DecoderParts(pyramid=None, pixel_decoder=None, mask_decoder=mask_decoder)


DECODERS: dict[str, Callable[[CfgNode, FrozenEncoder], DecoderParts]] = {
    "mask2former": _mask2former,
    "two_way": _two_way,
}
"""`MODEL.DECODER.NAME`."""


def _ldp(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    return LocalDiscriminativePooling(
        channels=cfg.MODEL.DECODER.CHANNELS,
        clip_channels=clip.feature_dim,
        embed_dim=clip.embed_dim,
        layers=cfg.MODEL.LDP.LAYERS,
        heads=cfg.MODEL.LDP.HEADS,
        mask_channels=mask_channels,
        streams=tuple(cfg.MODEL.LDP.STREAMS),
    )


def _clip_pooling(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    return ClipPooling(project=clip.project, channels=cfg.MODEL.DECODER.CHANNELS, embed_dim=clip.embed_dim)


EMBEDDINGS: dict[str, Callable[[CfgNode, FrozenCLIP, int], nn.Module]] = {"ldp": _ldp, "clip": _clip_pooling}
"""`MODEL.EMBEDDING.NAME`: how a mask gets its class embedding G; the last argument is the mask features' width."""


def look_up(key: str, name: str, table: dict[str, Any]) -> Any:
    """The entry of a table that a configuration's key names. Raises ValueError that lists the valid names."""
    if name not in table:
        hint = did_you_mean(name, table)
        raise ValueError(f"{key} is {name!r}, but must be one of: {', '.join(table)}.{hint}")
    return table[name]


def decoder_from_config(cfg: CfgNode, encoder: FrozenEncoder) -> DecoderParts:
    """The modules from F to masks."""
    build = look_up("MODEL.DECODER.NAME", cfg.MODEL.DECODER.NAME, DECODERS)
    return build(cfg, encoder)


def embedding_from_config(cfg: CfgNode, clip: FrozenCLIP, mask_channels: int) -> nn.Module:
    """The module from masks and features to class embeddings."""
    build = look_up("MODEL.EMBEDDING.NAME", cfg.MODEL.EMBEDDING.NAME, EMBEDDINGS)
    return build(cfg, clip, mask_channels)


def criterion_from_config(cfg: CfgNode) -> SetCriterion:
    loss = cfg.MODEL.LOSS
    return SetCriterion(
        matcher=HungarianMatcher(
            class_weight=loss.CLASS, mask_weight=loss.MASK, dice_weight=loss.DICE, points=loss.POINTS
        ),
        class_weight=loss.CLASS,
        mask_weight=loss.MASK,
        dice_weight=loss.DICE,
        iou_weight=loss.IOU,
        no_object_weight=loss.NO_OBJECT,
        points=loss.POINTS,
        oversample=loss.OVERSAMPLE,
        importance=loss.IMPORTANCE,
    )


def ensembles_from_config(cfg: CfgNode) -> dict[str, Any]:
    """The ensemble in use and those of `TEST.COMPARE`, built from their nodes of constants."""
    names = dict.fromkeys([cfg.MODEL.ENSEMBLE.NAME, *cfg.TEST.COMPARE])
    return {name: _ensemble(name, cfg.MODEL.ENSEMBLE[name.upper()]) for name in names}


def ensemble_from_yaml(name: str, config: str) -> Ensemble:
    """An ensemble with the constants of a configuration's YAML, or with its defaults where that has none of it.

    Raises:
        ValueError: unknown name, or a constant that is unknown or out of range.
    """
    nodes = (yaml.safe_load(config) or {}).get("MODEL", {}).get("ENSEMBLE", {})
    constants = nodes.get(str(name).upper())
    return _ensemble(name, constants if isinstance(constants, Mapping) else {})


def _ensemble(name: str, constants: Mapping[str, Any]) -> Ensemble:
    return build_ensemble(name, **{key.lower(): value for key, value in constants.items()})


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
