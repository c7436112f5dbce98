"""The stages that all systems share: encode, predict masks, classify, score, postprocess; and the losses.

Shapes: B images, Q queries, K classes, T targets, D width of CLIP's joint space, C hidden width; H×W the padded
input, h×w = H/4×W/4.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from possam.backbones import TrainedBackbone
from possam.classifiers import ClassificationInputs, CosineClassifier, Ensemble, ImageEmbedder
from possam.decoders import MaskPrediction
from possam.encoders import FeatureMaps, FrozenCLIP, FrozenEncoder
from possam.inference import MASK_FILTERS, Postprocessor
from possam.layers import mask_pool
from possam.losses import ImageLabelCriterion, LayerOutput
from possam.models.batch import image_size, output_size, pad_images, padded_size, stack_features
from possam.models.parts import ensemble_from_yaml
from possam.models.prediction import MaskProposals, Prediction, compare, no_prompts
from possam.models.pretrained import Pretrained
from possam.models.state import exclude_frozen
from possam.models.supervision import class_logits, labeled_images, mask_vocabularies, segment_counts, target_of
from possam.vocabulary import ClassEmbeddings, TextBank, Vocabulary
from possam.vocabulary.background import with_background

__all__ = ["Features", "OpenVocabularySegmenter"]

Features = dict[str, FeatureMaps]
"""Feature maps of a batch by encoder or backbone, {role: {stride: B×C_s×H/s×W/s}}; roles are attributes of a model."""


class OpenVocabularySegmenter(Pretrained):
    """Base of the systems: an image and a vocabulary in, a segmentation with names out.

    A system assigns its frozen encoders, its trained backbone if it has one, its decoders, its class head and its
    classifier as attributes, says which maps of the frozen encoders it reads in `reads`, and implements `decode` and
    `embed_masks`, which also get all maps of the backbone. The model has no vocabulary of its own: every input brings
    the one it is to be classified in.

    Attributes:
        clip: the frozen CLIP whose text embeddings name the masks.
        classifier: class embeddings and text embeddings to logits.
        reads: strides of the maps read from each frozen encoder, by role; images are encoded by these encoders.
        takes_prompts: whether masks are those of prompts (`PromptedSegmenter`).
        trainable: whether there is anything to train; else `losses` raises ValueError.
    """

    clip: FrozenCLIP
    classifier: CosineClassifier
    reads: dict[str, tuple[int, ...]]
    takes_prompts = False
    trainable = True

    def __init__(
        self,
        *,
        text_bank: TextBank,
        criterion: Any,
        ensembles: dict[str, Any],
        ensemble: str,
        train_vocabulary: Vocabulary,
        image_size: int = 1024,
        shortest_edge: tuple[int, int] | None = None,
        pad_to: int = 0,
        tasks: tuple[str, ...] = ("panoptic", "semantic", "instance"),
        postprocessor: Postprocessor | None = None,
        mask_filter: str = "",
        image_embedder: ImageEmbedder | None = None,
        image_labels: ImageLabelCriterion | None = None,
        config: str = "",
    ) -> None:
        """
        Args:
            criterion: what `losses` and `accumulate_losses` call; a `SetCriterion` where the system does not say.
            ensembles: post-processors by name; `ensemble` is the one `forward` uses.
            train_vocabulary: the classes of the (first) training dataset; ensembles ask it what has been seen.
            image_size: what an image's longer side is brought to, in pixels, before it comes in.
            shortest_edge: instead of that what its shorter side is brought to, and what its longer side may have, in
                pixels.
            pad_to: side in pixels of the square every image is padded to; 0 pads to multiples of 32.
            tasks: outputs wanted of `forward`, of `possam.inference.OUTPUTS`.
            mask_filter: by what masks are ranked, a key of `MASK_FILTERS`; "" leaves it to the ensemble.
            image_embedder: what embeds masks by CLIP in the place of pooling its features, and needs the images.
            image_labels: losses of images that have labels only; by default with its own weights.
            config: YAML of the configuration all this comes from, for `save_pretrained` to write.
        """
        super().__init__()
        self.text_bank = text_bank
        self.criterion = criterion
        self.ensembles = ensembles
        self.ensemble = ensemble
        self.train_vocabulary = train_vocabulary
        self.image_size = image_size
        self.shortest_edge = shortest_edge
        self.pad_to = pad_to
        self.tasks = tasks
        self.postprocessor = postprocessor or Postprocessor()
        self.mask_filter = mask_filter
        self.image_embedder = image_embedder
        self.image_labels = image_labels or ImageLabelCriterion()
        self.config = config
        self._least_size = (0, 0)  # that images are padded to, in pixels
        exclude_frozen(self)

    # What a system implements.

    @abstractmethod
    def decode(self, features: Features) -> tuple[list[MaskPrediction], Tensor]:
        """Predictions of every decoder layer, the final one last, and F_mask B×M×h×w.

        In evaluation the final prediction alone is enough.
        """

    @abstractmethod
    def embed_masks(self, layers: list[MaskPrediction], mask_features: Tensor, features: Features) -> Tensor:
        """Class embeddings of the masks of L layers in CLIP's joint space, L×B×Q×D, not normalized."""

    def embed_masks_by_clip(self, mask_logits: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        """Frozen CLIP's own embeddings of masks: B×Q×D float32 unit vectors, and B×Q bool, True for a mask without a
        pixel at CLIP's resolution, whose embedding means nothing."""
        pooled, empty = mask_pool(features["clip"][self.clip.final_stride], mask_logits)
        return self.clip.project(pooled), empty

    def embed_for_labels(
        self, embeddings: Tensor, mask_logits: Tensor, features: Features, vocabularies: list[Vocabulary]
    ) -> Tensor:
        """Embeddings of masks that the labels of images are compared with (METHOD.md 2.9), B×Q×D of any length.

        By default they are the class embeddings.

        Args:
            embeddings: class embeddings of the final masks, B×Q×D as `embed_masks` gives them.
            mask_logits: of these masks, B×Q×h×w.
            vocabularies: of each image.
        """
        return embeddings

    def embed_layers(
        self, head: nn.Module, layers: list[MaskPrediction], mask_features: Tensor, features: Features
    ) -> Tensor:
        """Embed the masks of L layers, as `embed_masks`, by a class head over queries, masks, F_mask and F_clip."""
        clip_features = features["clip"][self.clip.final_stride]
        queries, masks = [layer.queries for layer in layers], [layer.mask_logits for layer in layers]
        if self.training:
            embedded: Tensor = head.embed_layers(queries, masks, mask_features, clip_features)  # type: ignore[operator]
            return embedded
        return head(queries[0], masks[0], mask_features, clip_features)[None]

    # Stages of inference.

    @property
    def device(self) -> torch.device:
        return self.classifier.void.device

    @property
    def frozen_encoders(self) -> dict[str, FrozenEncoder]:
        """The frozen encoders by role, in the order in which they were assigned."""
        return {role: module for role, module in self.named_children() if isinstance(module, FrozenEncoder)}

    @property
    def backbones(self) -> dict[str, TrainedBackbone]:
        """The trained backbones by role."""
        return {role: module for role, module in self.named_children() if isinstance(module, TrainedBackbone)}

    @property
    def pad_color(self) -> Tensor:
        """What images are padded with, 1×3×1×1 RGB in [0, 255]: the mean color of the backbone, or else of the first
        frozen encoder, which normalizes it to zeros."""
        modules: list[nn.Module] = [*self.backbones.values(), *self.frozen_encoders.values()]
        return modules[0].get_buffer("pixel_mean")

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training, segmentations otherwise.

        Args:
            batched_inputs: one dict an image:
                "image": 3×H'×W' uint8 or float RGB in [0, 255], not padded;
                "vocabulary": the Vocabulary to name it in;
                "instances" (training): Instances with gt_classes (T int64, contiguous) and gt_masks (T×H'×W' bool,
                    or what has them as its `tensor`: `SegmentMasks`, Detectron2's BitMasks), or else
                "labels": c int64, the classes that the image is known to show, each once;
                "height", "width": size in pixels of the segmentation to return; by default the image's own;
                "features": what `encode` returned for this image, padded, to save the encoders' work;
                "prompts" (only if `takes_prompts`): the `Prompts` of this image, in pixels of "image".

        Returns:
            In training a dict of weighted scalar losses (METHOD.md 1.8). Otherwise a dict an image, see `segment`.
        """
        if self.training:
            return self.losses(batched_inputs)
        return [self.segment(prediction) for prediction in self.predict(batched_inputs)]

    @property
    def cached_roles(self) -> tuple[str, ...]:
        """Encoders whose features a training keeps on disk (`INPUT.CACHE_FEATURES`); by default all."""
        return tuple(self.reads)

    @torch.no_grad()
    def encode(
        self, images: list[Tensor], *, pad_to: int | None = None, roles: Collection[str] | None = None
    ) -> Features:
        """Frozen features of images (3×H'×W' RGB in [0, 255]) once padded.

        `pad_to` takes the place of the model's own where images come at another size; `roles` are the encoders wanted,
        by default all.
        """
        batch = self._pad(images, pad_to)
        wanted = {role: strides for role, strides in self.reads.items() if roles is None or role in roles}
        return {role: getattr(self, role)(batch, strides=strides) for role, strides in wanted.items()}

    def encode_trained(self, images: list[Tensor], *, pad_to: int | None = None) -> Features:
        """All maps of the trained backbones, of images as for `encode`; with gradients where these are on."""
        if not self.backbones:
            return {}
        batch = self._pad(images, pad_to)
        return {role: backbone(batch) for role, backbone in self.backbones.items()}

    @torch.no_grad()
    def predict_masks(self, features: Features) -> dict[str, Tensor]:
        """The tensors of `MaskProposals` for a batch, B×… each, from what `encode` and `encode_trained` give of it."""
        layers, mask_features = self.decode(features)
        final = layers[-1]
        embeddings = self.embed_masks([final], mask_features, features)[0]
        clip_embeddings, clip_empty = self.embed_masks_by_clip(final.mask_logits, features)
        return {
            "mask_logits": final.mask_logits.float(),
            "query_embeddings": nn.functional.normalize(embeddings.float(), dim=-1),
            "clip_embeddings": clip_embeddings,
            "clip_empty": clip_empty,
            "iou": final.iou,
        }

    @torch.no_grad()
    def propose(self, batched_inputs: list[dict[str, Any]], *, pad_to: int | None = None) -> list[MaskProposals]:
        """Masks of images and what names them, before any vocabulary is known; inputs need no "vocabulary".

        `pad_to`: see `encode`.
        """
        if any("prompts" in inputs for inputs in batched_inputs):
            raise ValueError(no_prompts(self))
        features, padded = self._features(batched_inputs, pad_to)
        batch = self.predict_masks(features)
        if self.image_embedder is not None:
            images = [inputs["image"] for inputs in batched_inputs]
            embeddings, empty = self.image_embedder(self.clip, images, batch["mask_logits"])
            batch |= {"clip_embeddings": embeddings, "clip_empty": empty}
        return [
            MaskProposals(
                **{field: values[index] for field, values in batch.items()},
                padded_size=padded,
                image_size=image_size(inputs),
            )
            for index, inputs in enumerate(batched_inputs)
        ]

    @torch.no_grad()
    def classify(
        self,
        proposals: MaskProposals,
        vocabulary: Vocabulary,
        output_size: tuple[int, int],
        background: Sequence[int] = (),
    ) -> Prediction:
        """Compare mask proposals with a vocabulary; the same proposals can be classified in many. `background`: ids of
        training classes that compete as well, the last classes of the prediction."""
        train = self.train_vocabulary
        text = self._text(vocabulary, background), self._text(train)
        seen = (*vocabulary.exact_overlap(train), *[True] * len(background))
        inputs = compare(proposals, *text, seen, self.classifier, self.clip.logit_scale, background=len(background))
        return Prediction(
            mask_logits=proposals.mask_logits,
            inputs=inputs,
            vocabulary=with_background(vocabulary, train, background) if background else vocabulary,
            padded_size=proposals.padded_size,
            image_size=proposals.image_size,
            output_size=output_size,
        )

    def predict(self, batched_inputs: list[dict[str, Any]], *, pad_to: int | None = None) -> list[Prediction]:
        """Masks and class logits of every image, from which `segment` makes a segmentation with any ensemble.

        `pad_to`: see `encode`.
        """
        return [
            self.classify(proposals, inputs["vocabulary"], output_size(inputs))
            for proposals, inputs in zip(self.propose(batched_inputs, pad_to=pad_to), batched_inputs, strict=True)
        ]

    @torch.no_grad()
    def segment(
        self, prediction: Prediction, ensemble: str | None = None, tasks: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """Turn a prediction into segmentations (METHOD.md 1.9, 1.10), by default with the model's ensemble and tasks,
        as `Postprocessor` returns them; H×W is `prediction.output_size`."""
        return self.postprocess(prediction, self.score(prediction, ensemble), self.tasks if tasks is None else tasks)

    def score(self, prediction: Prediction, ensemble: str | None = None) -> Tensor:
        """Scores of an ensemble, by default the model's own: Q×K float32 in [0, 1] (METHOD.md 1.9)."""
        return self.score_inputs(prediction.inputs, ensemble)

    def score_inputs(self, inputs: ClassificationInputs, ensemble: str | None = None) -> Tensor:
        """Scores as `score` gives them: the ensemble's own, or those of the mask filter (METHOD.md 2.7)."""
        found = self.find_ensemble(ensemble)
        if not self.mask_filter:
            return found(inputs)
        return MASK_FILTERS[self.mask_filter](found.without_iou()(inputs), inputs.iou)

    def find_ensemble(self, name: str | None = None) -> Ensemble:
        """The post-processor of that name, by default the model's own; built at first use with the constants of
        MODEL.ENSEMBLE in the model's configuration.

        Raises:
            ValueError: there is no ensemble of that name, or a constant of it is out of range.
        """
        name = name or self.ensemble
        if name not in self.ensembles:  # setdefault: another thread may have built it meanwhile
            self.ensembles.setdefault(name, ensemble_from_yaml(name, self.config))
        return self.ensembles[name]

    def postprocess(
        self, prediction: Prediction, scores: Tensor, tasks: tuple[str, ...], threshold: float | None = None
    ) -> dict[str, Any]:
        """Segmentations, as `segment` returns them, of a prediction's masks with these scores (Q×K); a `threshold` is
        used as `object_threshold` of the post-processor."""
        inputs, isthing = prediction.inputs, prediction.vocabulary.isthing
        merge = self.postprocessor if threshold is None else replace(self.postprocessor, object_threshold=threshold)
        return merge(scores, prediction.masks, inputs.iou, inputs.void, isthing=isthing, tasks=tasks)

    # Training.

    @contextmanager
    def accumulating(self, batched_inputs: list[dict[str, Any]]) -> Iterator[None]:
        """Take the training passes inside the block, of equally many of these inputs each, for parts of one step."""
        self._least_size = self._padded_size([inputs["image"] for inputs in batched_inputs], None)
        try:
            with self.accumulate_losses(batched_inputs):
                yield
        finally:
            self._least_size = (0, 0)

    @contextmanager
    def accumulate_losses(self, batched_inputs: list[dict[str, Any]]) -> Iterator[None]:
        """Let the losses take their next calls for parts of one step with all these inputs."""
        counts = segment_counts(batched_inputs)
        with self.criterion.accumulating(counts), self.image_labels.accumulating(counts):
            yield

    def losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Weighted scalar losses, each image in its own vocabulary: of every decoder layer where there are "instances"
        (METHOD.md 1.8), of the last one where there are "labels" (2.9); the latter are there if the step has any."""
        labeled = self.image_labels.average(segment_counts(batched_inputs), self.device)  # first, see there
        features, padded = self._features(batched_inputs)
        layers, mask_features = self.decode(features)
        embeddings = self.embed_masks(layers, mask_features, features)
        vocabularies = mask_vocabularies(batched_inputs, self.train_vocabulary)
        logits = class_logits(self.classifier, self._text, embeddings, vocabularies)
        outputs = [LayerOutput(each, x.mask_embeddings, x.iou) for each, x in zip(logits, layers, strict=True)]
        targets = [target_of(inputs, padded, self.device) for inputs in batched_inputs]
        losses = self.criterion(outputs, targets, mask_features)
        if not layers[-1].iou.requires_grad:  # taken to be 1 (`PerfectIoU`): nothing to learn
            losses = {name: loss for name, loss in losses.items() if not name.startswith("loss_iou")}
        if labeled:
            own = [inputs["vocabulary"] for inputs in batched_inputs]
            compared = self.embed_for_labels(embeddings[-1], layers[-1].mask_logits, features, own)
            read = layers[-1], compared, mask_features, padded, self.classifier, self._text
            images = labeled_images(batched_inputs, *read)
            losses |= self.image_labels(images, labeled, self.device)
        return losses

    def _text(self, vocabulary: Vocabulary, background: Sequence[int] = ()) -> ClassEmbeddings:
        text = self.text_bank.embed(vocabulary)
        if background:
            text = text.join(self.text_bank.embed(self.train_vocabulary).select(background))
        return text.to(self.device)

    def _features(
        self, batched_inputs: list[dict[str, Any]], pad_to: int | None = None
    ) -> tuple[Features, tuple[int, int]]:
        """Features of the batch, frozen and trained, and the (height, width) of its padded images."""
        images = [inputs["image"] for inputs in batched_inputs]
        padded = self._padded_size(images, pad_to)
        cached = [inputs["features"] for inputs in batched_inputs if "features" in inputs]
        features = stack_features(cached, self.reads, self.device) if len(cached) == len(images) else {}
        if missing := [role for role in self.reads if role not in features]:
            features |= self.encode(images, pad_to=pad_to, roles=missing)
        return features | self.encode_trained(images, pad_to=pad_to), padded

    def _padded_size(self, images: list[Tensor], pad_to: int | None) -> tuple[int, int]:
        return padded_size(images, self.pad_to if pad_to is None else pad_to, self._least_size)

    def _pad(self, images: list[Tensor], pad_to: int | None) -> Tensor:
        return pad_images(images, self._padded_size(images, pad_to), self.pad_color)
