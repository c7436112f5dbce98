"""PosSAM: frozen SAM and CLIP, a trained mask decoder, and Local Discriminative Pooling (METHOD.md 1).

Shapes: B images, Q queries, K classes, T targets, D width of CLIP's joint space, C hidden width; H×W the padded
input, h×w = H/4×W/4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from possam.classifiers import ClipPooling, CosineClassifier, Ensemble, LocalDiscriminativePooling, MaskEvidence
from possam.d2.config import CfgNode, configurable
from possam.d2.modeling import META_ARCH_REGISTRY
from possam.decoders import MaskPrediction
from possam.encoders import FrozenCLIP, FrozenSAM
from possam.inference import MaskGrid, merge_instances, merge_panoptic, merge_semantic, retry_out_of_memory
from possam.layers import mask_pool
from possam.losses import LayerOutput, SetCriterion, Target
from possam.models.compiled import compile_parts
from possam.models.parts import (
    criterion_from_config,
    decoder_from_config,
    embedding_from_config,
    ensemble_from_yaml,
    ensembles_from_config,
    train_vocabulary_from_config,
)
from possam.models.prediction import Perception, Prediction
from possam.models.pretrained import Pretrained
from possam.vocabulary import ClassEmbeddings, TextBank, Vocabulary

FROZEN = ("sam.", "clip.")
"""Prefixes of the frozen encoders' state: loaded from their own files, never saved with the model."""


@META_ARCH_REGISTRY.register()
class PosSAM(Pretrained):
    """Open-vocabulary panoptic segmentation (METHOD.md 1; Figures 3 and 4 of the PosSAM paper).

    The model has no vocabulary of its own: every input brings the one it is to be named in.
    """

    @configurable
    def __init__(
        self,
        *,
        sam: FrozenSAM,
        clip: FrozenCLIP,
        text_bank: TextBank,
        pyramid: nn.Module | None,
        pixel_decoder: nn.Module | None,
        mask_decoder: nn.Module,
        ldp: LocalDiscriminativePooling | ClipPooling,
        classifier: CosineClassifier,
        criterion: SetCriterion,
        ensembles: dict[str, Any],
        ensemble: str,
        train_vocabulary: Vocabulary,
        image_size: int = 1024,
        pad_to: int = 0,
        tasks: tuple[str, ...] = ("panoptic", "semantic", "instance"),
        object_threshold: float = 0.1,
        overlap_threshold: float = 0.8,
        top_k: int = 100,
        compiled: bool = False,
        config: str = "",
    ) -> None:
        """
        Args:
            pyramid, pixel_decoder: F_sam to {stride: map}, and these to (F_mask, scales); both None where the
                decoder reads F_sam itself.
            mask_decoder: (F_mask, scales) to the predictions of its layers (`MaskDecoder`), or else F_sam to these and
                F_mask (`TwoWayDecoder`).
            ldp: queries, masks, F_mask and F_clip to class embeddings (`LocalDiscriminativePooling`, `ClipPooling`).
            ensembles: post-processors by name; `ensemble` is the one `forward` uses.
            train_vocabulary: the classes the model is or was trained on; ensembles ask it what has been seen.
            image_size: what an image's longer side is brought to, in pixels, before it comes in.
            pad_to: side in pixels of the square every image is padded to; 0 pads to multiples of 32.
            tasks: outputs wanted of `forward`: "panoptic", "semantic", "instance", "quality".
            compiled: run the encoders and the decoder through torch.compile.
            config: YAML of the configuration all this comes from, for `save_pretrained` to write.
        """
        super().__init__()
        self.sam = sam
        self.clip = clip
        self.text_bank = text_bank
        self.pyramid = pyramid
        self.pixel_decoder = pixel_decoder
        self.mask_decoder = mask_decoder
        self.ldp = ldp
        self.classifier = classifier
        self.criterion = criterion
        self.ensembles = ensembles
        self.ensemble = ensemble
        self.train_vocabulary = train_vocabulary
        self.image_size = image_size
        self.pad_to = pad_to
        self.tasks = tasks
        self.object_threshold = object_threshold
        self.overlap_threshold = overlap_threshold
        self.top_k = top_k
        self.config = config
        if compiled:
            compile_parts(sam, clip, pyramid, pixel_decoder, mask_decoder)
        self._least_size = (0, 0)  # that images are padded to, in pixels
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_post_hook(_excuse_frozen)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from the configuration (keys in possam/models/config.py)."""
        model = cfg.MODEL
        sam = FrozenSAM.build(name=model.SAM.NAME, weights=model.SAM.WEIGHTS, seed=model.SAM.SEED)
        clip = FrozenCLIP.build(
            name=model.CLIP.NAME, weights=model.CLIP.WEIGHTS, input_scale=model.CLIP.INPUT_SCALE
        )
        decoder = decoder_from_config(cfg, sam)
        return {
            "sam": sam,
            "clip": clip,
            "text_bank": TextBank(encoder=clip, directory=Path(model.TEXT_CACHE) if model.TEXT_CACHE else None),
            **decoder._asdict(),
            "ldp": embedding_from_config(cfg, clip, decoder.mask_decoder.mask_channels),
            "classifier": CosineClassifier(embed_dim=clip.embed_dim),
            "criterion": criterion_from_config(cfg),
            "ensembles": ensembles_from_config(cfg),
            "ensemble": model.ENSEMBLE.NAME,
            "train_vocabulary": train_vocabulary_from_config(cfg),
            "image_size": cfg.INPUT.IMAGE_SIZE,
            "pad_to": cfg.INPUT.IMAGE_SIZE if cfg.INPUT.PAD_TO_SQUARE else 0,
            "tasks": tuple(cfg.TEST.TASKS),
            "object_threshold": cfg.TEST.OBJECT_THRESHOLD,
            "overlap_threshold": cfg.TEST.OVERLAP_THRESHOLD,
            "top_k": cfg.TEST.TOP_K,
            "compiled": model.COMPILE,
            "config": cfg.dump(),
        }

    @property
    def device(self) -> torch.device:
        return self.classifier.void.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training, segmentations otherwise.

        Args:
            batched_inputs: one dict an image:
                "image": 3×H'×W' uint8 or float RGB in [0, 255], not padded;
                "vocabulary": the Vocabulary to name it in (one for the whole batch in training);
                "instances" (training): Instances with gt_classes (T int64, contiguous) and gt_masks (T×H'×W' bool,
                    or what has them as its `tensor`: `SegmentMasks`, Detectron2's BitMasks);
                "height", "width": size in pixels of the segmentation to return; by default the image's own;
                "features": what `encode` returned for this image, padded, to save the encoders' work.

        Returns:
            In training a dict of weighted scalar losses (METHOD.md 1.8). Otherwise a dict an image, see `segment`.
        """
        if self.training:
            return self._losses(batched_inputs)
        return [self.segment(prediction) for prediction in self.predict(batched_inputs)]

    @contextmanager
    def accumulating(self, batched_inputs: list[dict[str, Any]]) -> Iterator[None]:
        """Take the training passes inside the block, of equally many of these inputs each, for parts of one step."""
        self._least_size = self._padded_size([inputs["image"] for inputs in batched_inputs], None)
        try:
            with self.criterion.accumulating([len(inputs["instances"].gt_classes) for inputs in batched_inputs]):
                yield
        finally:
            self._least_size = (0, 0)

    @torch.no_grad()
    def encode(self, images: list[Tensor], *, pad_to: int | None = None) -> dict[str, Tensor]:
        """Frozen features of images (3×H'×W' RGB in [0, 255]) once padded: {"sam": F_sam, "clip": F_clip}."""
        batch = self._pad(images, self._padded_size(images, pad_to))
        return {"sam": self.sam(batch), "clip": self.clip(batch)}

    @torch.no_grad()
    def perceive(self, batched_inputs: list[dict[str, Any]], *, pad_to: int | None = None) -> list[Perception]:
        """All that the network says of images without knowing a single name; inputs need no "vocabulary".

        `pad_to` takes the place of the model's own where images come at another size.
        """
        features, padded = self._features(batched_inputs, pad_to)
        seen = self.read_features(features["sam"], features["clip"])
        return [
            Perception(
                **{field: values[index] for field, values in seen.items()},
                padded_size=padded,
                image_size=_image_size(inputs),
            )
            for index, inputs in enumerate(batched_inputs)
        ]

    @torch.no_grad()
    def read_features(self, sam_features: Tensor, clip_features: Tensor) -> dict[str, Tensor]:
        """The tensors of `Perception` for a batch, B×… each, from F_sam (B×C×H/s×W/s) and F_clip (B×D_v×H_c×W_c)."""
        layers, mask_features = self._decode(sam_features)
        final = layers[-1]
        embeddings = self.ldp(final.queries, final.mask_logits, mask_features, clip_features)
        pooled, empty = mask_pool(clip_features, final.mask_logits)
        return {
            "mask_logits": final.mask_logits.float(),
            "ldp_embeddings": nn.functional.normalize(embeddings.float(), dim=-1),
            "clip_embeddings": self.clip.project(pooled),
            "clip_empty": empty,
            "iou": final.iou,
        }

    @torch.no_grad()
    def name(self, perception: Perception, vocabulary: Vocabulary, output_size: tuple[int, int]) -> Prediction:
        """Bring a vocabulary to what was perceived; one perception can be named with many."""
        return Prediction(
            mask_logits=perception.mask_logits,
            evidence=self._evidence(perception, vocabulary),
            vocabulary=vocabulary,
            padded_size=perception.padded_size,
            image_size=perception.image_size,
            output_size=output_size,
        )

    def predict(self, batched_inputs: list[dict[str, Any]], *, pad_to: int | None = None) -> list[Prediction]:
        """Masks and evidence for every image, from which `segment` makes a segmentation with any ensemble.

        `pad_to`: see `perceive`.
        """
        perceptions = self.perceive(batched_inputs, pad_to=pad_to)
        return [
            self.name(perception, inputs["vocabulary"], _output_size(inputs))
            for perception, inputs in zip(perceptions, batched_inputs, strict=True)
        ]

    @torch.no_grad()
    def segment(
        self, prediction: Prediction, ensemble: str | None = None, tasks: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """Turn a prediction into segmentations (METHOD.md 1.9, 1.10), by default the model's own ensemble and tasks.

        Returns:
            By task: "panoptic_seg": (H×W int32 segment ids, segments_info with the masks' "iou"); "semantic_seg": H×W
            int64 class map;
            "instances": Instances with pred_masks, pred_boxes (XYXY pixels), scores, pred_classes;
            "mask_quality": {"masks": Q×H×W bool, "iou": Q float32 in [0, 1]}. H×W is `prediction.output_size`.
        """
        scores = self.score(prediction, ensemble)
        tasks = self.tasks if tasks is None else tasks
        return self.merge(scores, prediction.masks, prediction.evidence.iou, prediction.vocabulary, tasks)

    def score(self, prediction: Prediction, ensemble: str | None = None) -> Tensor:
        """Scores of an ensemble, by default the model's own: Q×K float32 in [0, 1] (METHOD.md 1.9)."""
        return self.find_ensemble(ensemble)(prediction.evidence)

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

    def merge(
        self, scores: Tensor, masks: MaskGrid, iou: Tensor, vocabulary: Vocabulary, tasks: tuple[str, ...]
    ) -> dict[str, Any]:
        """Segmentations, as `segment` returns them, of scores (Q×K), masks and IoU (Q); on the CPU where the device's
        memory does not suffice."""
        return retry_out_of_memory(
            lambda device: self._merge(scores.to(device), masks.to(device), iou.to(device), vocabulary, tasks),
            masks.device,
        )

    def _merge(
        self, scores: Tensor, masks: MaskGrid, iou: Tensor, vocabulary: Vocabulary, tasks: tuple[str, ...]
    ) -> dict[str, Any]:
        isthing = vocabulary.isthing
        output: dict[str, Any] = {}
        if "panoptic" in tasks:
            ids, segments = merge_panoptic(
                scores,
                masks,
                isthing,
                object_threshold=self.object_threshold,
                overlap_threshold=self.overlap_threshold,
            )
            quality = iou.tolist()
            output["panoptic_seg"] = ids, [{**segment, "iou": quality[segment["query"]]} for segment in segments]
        if "semantic" in tasks:
            output["semantic_seg"] = merge_semantic(scores, masks)
        if "instance" in tasks:
            output["instances"] = merge_instances(scores, masks, isthing, top_k=self.top_k)
        if "quality" in tasks:
            output["mask_quality"] = {"masks": masks.inside(), "iou": iou}
        return output

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        vocabulary, *others = dict.fromkeys(inputs["vocabulary"] for inputs in batched_inputs)
        if different := [other.name for other in others if vocabulary.difference(other)]:
            names = sorted([vocabulary.name, *different])
            raise ValueError(f"A training batch must have one vocabulary, but got {names}; train on datasets of one.")
        text = self._text(vocabulary)
        features, padded = self._features(batched_inputs)
        layers, mask_features = self._decode(features["sam"])
        queries, masks = [layer.queries for layer in layers], [layer.mask_logits for layer in layers]
        class_logits = self.classifier(self.ldp.embed_layers(queries, masks, mask_features, features["clip"]), text)
        outputs = [
            LayerOutput(logits, layer.mask_embeddings, layer.iou)
            for logits, layer in zip(class_logits, layers, strict=True)
        ]
        targets = [self._target(inputs, padded) for inputs in batched_inputs]
        losses = self.criterion(outputs, targets, mask_features)
        if not layers[-1].iou.requires_grad:  # taken to be 1 (`PerfectIoU`): nothing to learn
            losses = {name: loss for name, loss in losses.items() if not name.startswith("loss_iou")}
        return losses

    def _decode(self, sam_features: Tensor) -> tuple[list[MaskPrediction], Tensor]:
        """Predictions of every layer, the final one last, and F_mask."""
        if self.pyramid is None or self.pixel_decoder is None:
            return self.mask_decoder(sam_features)
        mask_features, scales = self.pixel_decoder(self.pyramid(sam_features))
        return self.mask_decoder(mask_features, scales), mask_features

    def _evidence(self, perception: Perception, vocabulary: Vocabulary) -> MaskEvidence:
        text, train_text = self._text(vocabulary), self._text(self.train_vocabulary)
        ldp, clip = perception.ldp_embeddings, perception.clip_embeddings
        return MaskEvidence(
            ldp_embeddings=ldp,
            clip_embeddings=clip,
            ldp_logits=self.classifier(ldp, text),
            clip_logits=text.logits(clip, self.clip.logit_scale),
            iou=perception.iou,
            clip_empty=perception.clip_empty,
            text=text,
            train_text=train_text,
            ldp_scale=self.classifier.scale.item(),
            clip_scale=self.clip.logit_scale,
            exact_seen=torch.tensor(vocabulary.exact_overlap(self.train_vocabulary), device=ldp.device),
        )

    def _text(self, vocabulary: Vocabulary) -> ClassEmbeddings:
        return self.text_bank.embed(vocabulary).to(self.device)

    def _features(
        self, batched_inputs: list[dict[str, Any]], pad_to: int | None = None
    ) -> tuple[dict[str, Tensor], tuple[int, int]]:
        """Frozen features of the batch and the (height, width) of its padded images."""
        if all("features" in inputs for inputs in batched_inputs):
            stacked = {
                key: torch.stack([inputs["features"][key] for inputs in batched_inputs]).to(self.device).float()
                for key in ("sam", "clip")
            }
            height, width = stacked["sam"].shape[-2:]
            return stacked, (height * self.sam.stride, width * self.sam.stride)
        images = [inputs["image"] for inputs in batched_inputs]
        return self.encode(images, pad_to=pad_to), self._padded_size(images, pad_to)

    def _padded_size(self, images: list[Tensor], pad_to: int | None) -> tuple[int, int]:
        pad_to = self.pad_to if pad_to is None else pad_to
        height = max(self._least_size[0], *(image.shape[-2] for image in images))
        width = max(self._least_size[1], *(image.shape[-1] for image in images))
        if not pad_to:
            return -(-height // 32) * 32, -(-width // 32) * 32
        if max(height, width) > pad_to:
            raise ValueError(
                f"An image of {height}x{width} pixels does not fit in the {pad_to}x{pad_to} input; "
                f"resize its longest side to {pad_to}."
            )
        return pad_to, pad_to

    def _pad(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        """B×3×H×W float32 RGB. The border has SAM's mean colour, which its normalisation turns into zeros."""
        batch = self.sam.pixel_mean.repeat(len(images), 1, *size)
        for padded, image in zip(batch, images, strict=True):
            padded[:, : image.shape[-2], : image.shape[-1]] = image
        return batch

    def _target(self, inputs: dict[str, Any], padded: tuple[int, int]) -> Target:
        instances = inputs["instances"].to(self.device)
        masks = getattr(instances.gt_masks, "tensor", instances.gt_masks)
        height, width = masks.shape[-2:]
        border = (0, padded[1] - width, 0, padded[0] - height)
        return Target(labels=instances.gt_classes, masks=nn.functional.pad(masks, border))


def _image_size(inputs: dict[str, Any]) -> tuple[int, int]:
    height, width = inputs["image"].shape[-2:]
    return height, width


def _output_size(inputs: dict[str, Any]) -> tuple[int, int]:
    height, width = _image_size(inputs)
    return inputs.get("height", height), inputs.get("width", width)


def _drop_frozen(module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
    for key in [key for key in state if key.startswith(tuple(prefix + name for name in FROZEN))]:
        del state[key]


def _excuse_frozen(_module: nn.Module, incompatible: Any) -> None:
    missing = [key for key in incompatible.missing_keys if not key.startswith(FROZEN)]
    incompatible.missing_keys[:] = missing
