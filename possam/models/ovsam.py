"""Open-Vocabulary SAM: a point or a box in, a mask and its name out, from one frozen CLIP.

METHOD.md 3; arXiv:2401.02955.

Shapes: B images, N prompts of an image, M masks of a prompt, D width of CLIP's joint space; h×w = H/4×W/4 of the padded
input.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.classifiers import FixedCosineClassifier, RoIEmbedding
from possam.config.key import Choice, Key, ListOf, count, not_negative
from possam.d2.config import CfgNode, configurable
from possam.decoders import PromptedDecoder, PromptedMasks
from possam.decoders.prompt_decoding import ambiguous_prompts, best_masks, decode_prompts
from possam.encoders import FrozenCLIP
from possam.encoders.sam import PIXEL_MEAN, PIXEL_STD
from possam.inference.boxes import boxes_of_masks
from possam.layers.prompts import Prompts
from possam.layers.segment_masks import RepeatedMasks
from possam.losses import Assignment, PromptedCriterion, PromptedOutput, Target
from possam.models.base import Features
from possam.models.part_weights import load_part_weights
from possam.models.parts import CLIP_KEYS, CRITERION_KEYS, DECODER_CHOICE_KEYS, MASK_DECODER_KEYS, shared_arguments
from possam.models.prompted import PromptedSegmenter
from possam.models.spec import register_model
from possam.models.supervision import one_vocabulary
from possam.necks import SAM2CLIP
from possam.vocabulary import Vocabulary

if TYPE_CHECKING:  # importing them takes seconds
    from possam.decoders import PromptEncoder
    from possam.necks import TopDownPyramid

__all__ = ["KEYS", "MODES", "OVSAM", "PARTS", "chosen"]

logger = logging.getLogger(__name__)

MODES: dict[str, dict[str, str]] = {
    "published": {
        "PIXEL_STATISTICS": "sam",
        "TOKENS": "mask",
        "CLASS_EMBEDDING": "roi",
        "BOXES": "mask",
        "BACKGROUND": "zero",
    },
    "possam": {
        "PIXEL_STATISTICS": "clip",
        "TOKENS": "sam",
        "CLASS_EMBEDDING": "roi_label",
        "BOXES": "prompt",
        "BACKGROUND": "none",
    },
}
"""The two modes of METHOD.md 3: values of the keys `MODEL.OVSAM.*` that are left empty."""

_OWN = {
    "MODEL.MASK_FORMER." + key
    for key in (
        "HIDDEN_DIM", "NHEADS", "DIM_FEEDFORWARD", "TWO_WAY_LAYERS", "CLASS_WEIGHT", "MASK_WEIGHT", "DICE_WEIGHT",
        "IOU_WEIGHT", "TRAIN_NUM_POINTS", "OVERSAMPLE_RATIO", "IMPORTANCE_SAMPLE_RATIO",
    )
}  # fmt: skip


def _difference(key: str, choices: str, what: str, *, resume: Any = "fixed") -> Key:
    return Key(f"MODEL.OVSAM.{key}", "", Choice(["", *choices.split()]), resume=resume, help=what)


KEYS = (
    *CLIP_KEYS,
    *(key for key in (*MASK_DECODER_KEYS, *DECODER_CHOICE_KEYS, *CRITERION_KEYS) if key.name in _OWN),
    Key("MODEL.OVSAM.MODE", "possam", Choice(MODES), resume="fixed",
        help="the published model, or this project's; settings of MODEL.OVSAM that are empty are the mode's"),
    _difference("PIXEL_STATISTICS", "sam clip", "whose pixel mean and deviation CLIP's input is normalized with"),
    _difference("TOKENS", "mask sam", "of the decoder: one mask's, or SAM's IoU token and four masks'"),
    _difference("CLASS_EMBEDDING", "roi label roi_label clip",
                "of the box's features, of the label token, their sum, or frozen CLIP's own and no label token"),
    _difference("BOXES", "mask prompt", "box of the region to classify: the mask's, or the prompt's if it has one",
                resume="effective"),
    _difference("BACKGROUND", "zero none", "the classifier's last row: a zero vector, or none", resume="effective"),
    Key("MODEL.OVSAM.NEGATIVE_VOCABULARY", "", resume="effective", path=True,
        help="table whose other things are negatives in training, as novel names in the published one; empty: none"),
    Key("MODEL.OVSAM.MULTIMASK", True, resume="effective",
        help="a single point gives the best of SAM's three candidate masks; else mask 0, as all other prompts"),
    Key("MODEL.OVSAM.ROI_SIZE", 12, count, resume="effective", help="side in cells of the grid over a box"),
    Key("INPUT.NUM_PROMPTS", 40, count, resume="effective", help="prompts of a training image"),
    Key("INPUT.NUM_BOX_PROMPTS", 21, not_negative, resume="effective", help="how many of them are boxes, not points"),
    Key("MODEL.SAM2CLIP.LEVELS", [], ListOf(count), resume="fixed",
        help="strides of CLIP's maps that it reads; empty: all"),
    Key("MODEL.SAM2CLIP.STRIDE", 16, count, resume="fixed", help="pixels of a cell of the image embedding"),
    Key("MODEL.SAM2CLIP.GRID", 64, count, resume="fixed", help="side in cells that the position embedding is for"),
    Key("MODEL.SAM2CLIP.WIDTH", 1280, count, resume="fixed", help="channels of its blocks"),
    Key("MODEL.SAM2CLIP.LAYERS", 5, count, resume="fixed", help="its blocks, of which the last is global"),
    Key("MODEL.SAM2CLIP.NHEADS", 16, count, resume="fixed", help="heads of its blocks"),
    Key("MODEL.SAM2CLIP.WINDOW", 14, count, resume="fixed", help="side in cells of the windows of its blocks"),
    Key("MODEL.SAM2CLIP.WEIGHTS", "", machine=True, path=True, help="file of its weights; empty: random"),
    Key("MODEL.PROMPT_ENCODER.WEIGHTS", "", machine=True, path=True,
        help="SAM's file: weights of the prompt encoder, and initial ones of the decoder; shipped: the miniature's; "
             "empty: random"),
    Key("MODEL.PYRAMID.WEIGHTS", "", machine=True, path=True,
        help="file of the feature pyramid and the class embedding, where it is another than the decoder's"),
)  # fmt: skip

PARTS = {
    "sam2clip": ("sam2clip",),
    "prompt_encoder": ("prompt_encoder",),
    "pyramid": ("pyramid", "roi_embedding"),
}
"""Modules that may come from files of their own, by the role in `MODEL.<ROLE>.WEIGHTS`."""


def chosen(cfg: CfgNode, key: str) -> str:
    """The value of `MODEL.OVSAM.<key>`, or the mode's where it is empty."""
    settings = cfg.MODEL.OVSAM
    value: str = settings[key] or MODES[settings.MODE][key]
    return value


@register_model(encoders={"clip": FrozenCLIP}, parts=PARTS, keys=KEYS)
class OVSAM(PromptedSegmenter):
    """SAM2CLIP and CLIP2SAM over a frozen CLIP (METHOD.md 3; Figure 3 of the paper).

    The decoder, the feature pyramid and the class embedding are trained. SAM2CLIP and the prompt encoder are fixed, but
    published only as parts of this model or of SAM, so they are ordinary modules without gradients and part of every
    checkpoint and saved model; CLIP is not. `MODEL.SAM2CLIP.WEIGHTS` and `MODEL.PROMPT_ENCODER.WEIGHTS` are their
    weights when a training starts; a saved model does not read them.
    """

    takes_region_boxes = True

    @configurable
    def __init__(
        self,
        *,
        clip: FrozenCLIP,
        sam2clip: SAM2CLIP,
        prompt_encoder: PromptEncoder,
        mask_decoder: PromptedDecoder,
        pyramid: TopDownPyramid,
        roi_embedding: RoIEmbedding,
        classifier: FixedCosineClassifier,
        class_embedding: str = "roi_label",
        prompt_boxes: bool = True,
        multimask: bool = True,
        negatives: Vocabulary | None = None,
        **shared: Any,
    ) -> None:
        """
        Args:
            clip: any with several maps.
            sam2clip: CLIP's maps to SAM's image embedding.
            class_embedding: "roi", that of the box's features; "label", that of the label token; "roi_label", the sum;
                "clip", frozen CLIP's own, so that nothing that names masks is trained ("SAM2CLIP only" in the paper).
            prompt_boxes: name the prompt's box where it has one; else always the predicted mask's.
            multimask: take the best by estimated IoU of the candidates for a single point.
            negatives: classes that take part in the training softmax beside those of the batch.
            shared: of `OpenVocabularySegmenter`.
        """
        super().__init__(**shared)
        self.clip = clip
        self.sam2clip = sam2clip.requires_grad_(False)
        self.prompt_encoder = prompt_encoder.requires_grad_(False)
        self.mask_decoder = mask_decoder
        self.pyramid = pyramid
        self.roi_embedding = roi_embedding
        self.classifier = classifier
        self.class_embedding = class_embedding
        self.prompt_boxes = prompt_boxes
        self.multimask = multimask and mask_decoder.masks > 1
        self.negatives = negatives
        self.reads = {"clip": tuple(clip.out_channels)}
        # What the class does not depend on has no gradient: as published, where it is multiplied by 0 (METHOD.md 3.4).
        if class_embedding == "roi" and mask_decoder.label_mlp is not None:
            mask_decoder.label_mlp.requires_grad_(False)
        if class_embedding in ("label", "clip"):
            pyramid.requires_grad_(False)
            roi_embedding.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration."""
        from possam.decoders import PromptEncoder
        from possam.necks import TopDownPyramid

        model, decoder, neck = cfg.MODEL, cfg.MODEL.MASK_FORMER, cfg.MODEL.SAM2CLIP
        of_sam = tuple(value / 255 for value in PIXEL_MEAN), tuple(value / 255 for value in PIXEL_STD)
        clip = FrozenCLIP.build(
            name=model.CLIP.NAME,
            weights=model.CLIP.WEIGHTS,
            input_scale=model.CLIP.INPUT_SCALE,
            pixel_statistics=of_sam if chosen(cfg, "PIXEL_STATISTICS") == "sam" else None,
        )
        levels = _levels(clip, list(neck.LEVELS))
        every, zero = chosen(cfg, "TOKENS") == "sam", chosen(cfg, "BACKGROUND") == "zero"
        parts: dict[str, nn.Module] = {
            "sam2clip": SAM2CLIP(
                in_channels={stride: clip.out_channels[stride] for stride in levels},
                stride=neck.STRIDE,
                width=neck.WIDTH,
                layers=neck.LAYERS,
                heads=neck.NHEADS,
                window=neck.WINDOW,
                grid=neck.GRID,
                out_channels=decoder.HIDDEN_DIM,
            ),
            "prompt_encoder": PromptEncoder(channels=decoder.HIDDEN_DIM),
            "mask_decoder": PromptedDecoder(
                embed_dim=clip.embed_dim,
                stride=neck.STRIDE,
                channels=decoder.HIDDEN_DIM,
                masks=4 if every else 1,
                iou_head=every,
                label_token=chosen(cfg, "CLASS_EMBEDDING") != "clip",
                layers=decoder.TWO_WAY_LAYERS,
                heads=decoder.NHEADS,
                dim_feedforward=decoder.DIM_FEEDFORWARD,
            ),
            "pyramid": TopDownPyramid(in_channels=clip.out_channels, channels=decoder.HIDDEN_DIM),
            "roi_embedding": RoIEmbedding(
                channels=decoder.HIDDEN_DIM, embed_dim=clip.embed_dim, cells=model.OVSAM.ROI_SIZE
            ),
        }
        _load_parts(parts, cfg)
        return {
            "clip": clip,
            **parts,
            "classifier": FixedCosineClassifier(embed_dim=clip.embed_dim, background=zero),
            "class_embedding": chosen(cfg, "CLASS_EMBEDDING"),
            "prompt_boxes": chosen(cfg, "BOXES") == "prompt",
            "multimask": model.OVSAM.MULTIMASK,
            "negatives": Vocabulary.load(extra).things() if (extra := model.OVSAM.NEGATIVE_VOCABULARY) else None,
            **shared_arguments(cfg, clip, _criterion(cfg)),
        }

    # Stages of inference.

    def prepare(self, features: Features) -> Features:
        """The image embedding, ready for the decoder, and the feature pyramid, beside CLIP's maps."""
        maps = features["clip"]
        with torch.no_grad():
            embedding = self.sam2clip(maps) + self.prompt_encoder.no_mask
        return {**features, "sam2clip": {self.sam2clip.stride: embedding}, "pyramid": self.pyramid(maps)}

    @torch.no_grad()
    def predict_masks(
        self, features: Features, prompts: Prompts | None = None, region_boxes: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert prompts is not None
        masks = self._decode(features, prompts)
        best = best_masks(masks, prompts, multimask=self.multimask)
        row = torch.arange(len(best), device=best.device)
        mask_logits = masks.mask_logits[row, best].float()
        boxes = self._boxes(mask_logits, prompts)
        of_clip = boxes if region_boxes is None else region_boxes
        if region_boxes is not None and not self.clip.has_attention_pool:
            raise ValueError(f"{self.clip.name} names masks, not boxes; leave out region_boxes.")
        clip_embeddings, clip_empty = self._embed_by_clip(features, mask_logits, of_clip)
        trained = self.class_embedding != "clip"
        embeddings = self._embed(features, [boxes], masks.label) if trained else clip_embeddings
        found = {
            "mask_logits": mask_logits,
            "query_embeddings": F.normalize(embeddings.float(), dim=-1),
            "clip_embeddings": clip_embeddings,
            "clip_empty": clip_empty,
            "iou": best.new_ones(len(best)).float() if masks.iou is None else masks.iou[row, best].float().clamp(0, 1),
        }
        return {field: values[None] for field, values in found.items()}

    def _decode(self, features: Features, prompts: Prompts) -> PromptedMasks:
        """Masks of the prompts of one image."""
        ((stride, embedding),) = features["sam2clip"].items()
        return decode_prompts(self.prompt_encoder, self.mask_decoder, embedding, prompts, stride=stride)

    def _ambiguous(self, prompts: Prompts) -> Tensor:
        """N bool: a single point may mean the whole or a part."""
        return ambiguous_prompts(prompts) & self.multimask

    def _boxes(self, mask_logits: Tensor, prompts: Prompts) -> Tensor:
        """Boxes of the regions to classify, N×4 XYXY in pixels, from masks and prompts alone."""
        boxes = 4 * boxes_of_masks(mask_logits > 0)  # of cells of stride 4
        return torch.where(prompts.has_box[:, None] & self.prompt_boxes, prompts.boxes, boxes)

    def _embed(self, features: Features, boxes: list[Tensor], label: Tensor) -> Tensor:
        """Trained class embeddings (ΣN)×D of the boxes of all images, not normalized; `label` is (ΣN)×D too."""
        if self.class_embedding in ("label", "clip"):  # of the latter zeros, whose loss is constant
            return label
        embedded: Tensor = self.roi_embedding(features["pyramid"], boxes)
        return embedded + label if self.class_embedding == "roi_label" else embedded

    def _embed_by_clip(self, features: Features, mask_logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Frozen CLIP's embeddings N×D, by its attention pool over the box or else by the mean over the mask (METHOD.md
        3.6), and N bool, True for a mask without a cell of CLIP's."""
        if not self.clip.has_attention_pool:
            embedded, empty = self.embed_masks_by_clip(mask_logits[None], features)
            return embedded[0], empty[0]
        clip_features = features["clip"][self.clip.final_stride]
        cells = F.interpolate(mask_logits[None], size=clip_features.shape[-2:], mode="bilinear", align_corners=False)[0]
        return self.clip.pool_boxes(clip_features, [boxes]), ~(cells > 0).flatten(1).any(1)

    # Training.

    @contextmanager
    def accumulate_losses(self, batched_inputs: list[dict[str, Any]]) -> Iterator[None]:
        labels = [inputs["instances"].gt_classes for inputs in batched_inputs]
        named = [int((each >= 0).sum()) for each in labels]
        with self.criterion.accumulating([len(each) for each in labels], named):
            yield

    def losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Weighted scalar losses of the prompts (METHOD.md 3.7); the region that is named is the ground truth's box.

        The "instances" of an input are the targets of its "prompts", one each. One of class -1 trains its mask alone.
        """
        vocabulary = one_vocabulary(batched_inputs)
        features, padded = self._features(batched_inputs)
        prepared = self.prepare(features)
        targets, segments = zip(*(self._prompted_target(inputs, padded) for inputs in batched_inputs), strict=True)
        every = [inputs["prompts"].to(self.device) for inputs in batched_inputs]
        given = [Assignment(index, self._ambiguous(prompts)) for index, prompts in zip(segments, every, strict=True)]
        masks = [self._decode(_one(prepared, index), prompts) for index, prompts in enumerate(every)]
        boxes = [boxes_of_masks(target.masks)[one.segments] for target, one in zip(targets, given, strict=True)]
        embeddings = self._embed(prepared, boxes, torch.cat([each.label for each in masks]))
        logits = self._training_logits(embeddings, vocabulary).split([len(prompts) for prompts in every])
        outputs = [PromptedOutput(of, each.mask_logits, each.iou) for of, each in zip(logits, masks, strict=True)]
        losses: dict[str, Tensor] = self.criterion(outputs, list(targets), given)
        return losses

    def _prompted_target(self, inputs: dict[str, Any], padded: tuple[int, int]) -> tuple[Target, Tensor]:
        """Ground truth of T segments, and which of them each prompt means, N int64."""
        instances = inputs["instances"].to(self.device)
        masks, labels = instances.gt_masks, instances.gt_classes
        segments = torch.arange(len(labels), device=self.device)
        if isinstance(masks, RepeatedMasks):  # kept and compared once
            segments, masks = masks.places, masks.masks
            labels = labels.new_full((len(masks),), -1).index_copy(0, segments, labels)
        masks = getattr(masks, "tensor", masks)
        height, width = masks.shape[-2:]
        return Target(labels, F.pad(masks, (0, padded[1] - width, 0, padded[0] - height))), segments

    def _training_logits(self, embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
        """(ΣN)×(K+…+1): classes of the batch, the other negatives, and background."""
        logits = self.classifier(embeddings, self._text(vocabulary))
        if self.negatives is None:
            return logits
        others = torch.tensor(self.negatives.exact_overlap(vocabulary), device=logits.device).logical_not()
        more = self.classifier(embeddings, self._text(self.negatives))[:, :-1]
        return torch.cat([logits[:, :-1], more[:, others], logits[:, -1:]], dim=1)


def _one(features: Features, index: int) -> Features:
    """The features of one image of a batch."""
    return {role: {s: maps[index : index + 1] for s, maps in levels.items()} for role, levels in features.items()}


def _load_parts(parts: dict[str, nn.Module], cfg: CfgNode) -> None:
    """Load the parts that have files of their own, and warn of SAM2CLIP's where CLIP's maps are not those it knows."""
    for role, names in PARTS.items():
        path = cfg.MODEL[role.upper()].WEIGHTS
        published = path and load_part_weights(parts, path, role=role, names=names, starts=("mask_decoder",))
        if published and role == "sam2clip" and chosen(cfg, "PIXEL_STATISTICS") != "sam":
            logger.warning(
                "%s is the published SAM2CLIP, trained over a CLIP whose input has SAM's pixel statistics, but here it "
                "has CLIP's own; set MODEL.OVSAM.PIXEL_STATISTICS sam.",
                path,
            )


def _levels(clip: FrozenCLIP, wanted: list[int]) -> list[int]:
    """Strides of the maps that SAM2CLIP reads. Raises ValueError for a CLIP that does not have them."""
    found = list(clip.out_channels)
    if len(found) < 2 or not set(wanted) <= set(found):
        raise ValueError(
            f"MODEL.CLIP.NAME {clip.name!r} has maps of strides {found}, but several are needed, and those of "
            f"MODEL.SAM2CLIP.LEVELS {wanted} among them; use a ModifiedResNet or a ConvNeXt, such as RN50x16."
        )
    return wanted or found


def _criterion(cfg: CfgNode) -> PromptedCriterion:
    loss = cfg.MODEL.MASK_FORMER
    return PromptedCriterion(
        class_weight=loss.CLASS_WEIGHT,
        mask_weight=loss.MASK_WEIGHT,
        dice_weight=loss.DICE_WEIGHT,
        iou_weight=loss.IOU_WEIGHT,
        points=loss.TRAIN_NUM_POINTS,
        oversample=loss.OVERSAMPLE_RATIO,
        importance=loss.IMPORTANCE_SAMPLE_RATIO,
    )
