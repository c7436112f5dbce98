"""The three programs that a model becomes: image to features, features to masks, masks and text to scores.

Shapes: B images, S side of the square input in pixels, Q queries, D width of CLIP's joint space, N names, K classes,
R most names of a class; h×w = S/4×S/4.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from possam.classifiers import ClassificationInputs
from possam.export.pruning import without_unused
from possam.export.rows import RowEmbeddings
from possam.models import OpenVocabularySegmenter

__all__ = ["ImageEncoder", "MaskDecoder", "Program", "Scorer", "decoder_program", "encoder_program", "scorer_program"]

Features = Mapping[str, Sequence[int]]
"""Shapes for one image, by name, of what the programs before give."""

# Examples have two of everything that may be any number: torch.export takes sizes of 0 and 1 for fixed ones.
_EXAMPLES = 2


class ImageEncoder(nn.Module):
    """image B×3×S×S float32, RGB in [0, 255], padded with the model's `pad_color` → the maps that the model reads of
    each frozen encoder and of its backbone, by the names of `feature_names`."""

    def __init__(self, model: OpenVocabularySegmenter) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({**model.frozen_encoders, **model.backbones})
        self.frozen = set(model.frozen_encoders)
        self.names = feature_names(model)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        for role, names in self.names.items():
            options = {"strides": tuple(names)} if role in self.frozen else {}
            found = self.encoders[role](image, **options)
            maps |= {name: found[stride] for stride, name in names.items()}
        return maps


class MaskDecoder(nn.Module):
    """The encoder's maps → what `possam.models.MaskProposals` holds, B×… each. No name is known yet."""

    def __init__(self, model: OpenVocabularySegmenter) -> None:
        super().__init__()
        self.model = model
        self.names = feature_names(model)

    def forward(self, *maps: Tensor) -> dict[str, Tensor]:
        given = iter(maps)
        return self.model.predict_masks(
            {role: {stride: next(given) for stride in names} for role, names in self.names.items()}
        )


class Scorer(nn.Module):
    """Embeddings of masks, and the text of any vocabulary → logits, and scores of the model's own ensemble."""

    def __init__(self, model: OpenVocabularySegmenter) -> None:
        super().__init__()
        self.classifier = model.classifier
        self.score_inputs = model.score_inputs
        self.train_text = model.text_bank.embed(model.train_vocabulary).to(model.device)
        self.query_scale = model.classifier.scale.item()
        self.clip_scale = model.clip.logit_scale

    def forward(
        self,
        query_embeddings: Tensor,
        clip_embeddings: Tensor,
        clip_empty: Tensor,
        iou: Tensor,
        text_embeddings: Tensor,
        class_rows: Tensor,
        class_seen: Tensor,
    ) -> dict[str, Tensor]:
        """
        Args:
            query_embeddings, clip_embeddings: B×Q×D float32 unit vectors; clip_empty: B×Q bool; iou: B×Q float32.
            text_embeddings: N×D float32 unit rows, one a name.
            class_rows: K×R int64, the rows of `text_embeddings` that are names of each class; the first repeats where
                a class has fewer than R.
            class_seen: K bool, classes that share a name with the training vocabulary.

        Returns:
            scores B×Q×K in [0, 1] of the model's ensemble (METHOD.md 1.9); query_logits B×Q×(K+1), the last one void;
            clip_logits B×Q×K.
        """
        images, queries = iou.shape
        text = RowEmbeddings(
            embeddings=text_embeddings,
            class_index=class_rows[:, 0],
            num_classes=class_rows.shape[0],
            class_rows=class_rows,
        )
        # Scores of a mask do not depend on the other masks, so those of all images go through as one image's.
        query, clip = query_embeddings.flatten(0, 1), clip_embeddings.flatten(0, 1)
        inputs = ClassificationInputs(
            query_embeddings=query,
            clip_embeddings=clip,
            query_logits=self.classifier(query, text),
            clip_logits=text.logits(clip, self.clip_scale),
            iou=iou.flatten(),
            clip_empty=clip_empty.flatten(),
            text=text,
            train_text=self.train_text,
            query_scale=self.query_scale,
            clip_scale=self.clip_scale,
            exact_seen=class_seen,
        )
        found = {
            "scores": self.score_inputs(inputs),
            "query_logits": inputs.query_logits,
            "clip_logits": inputs.clip_logits,
        }
        return {name: values.unflatten(0, (images, queries)) for name, values in found.items()}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A module and what is needed to export it.

    Attributes:
        name: of its files.
        inputs: an example of every input, by name, in the order of `forward`.
        dynamic: names of the axes that may have any size, {input: {axis: name}}.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def _nested(self, shapes: Mapping[str, Any]) -> tuple[Any, ...]:
        """Shapes in the order of the inputs, as torch.export wants them: those of `*maps` are one tuple."""
        parameters = inspect.signature(self.module.forward).parameters.values()
        together = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
        return (tuple(shapes.values()),) if together else tuple(shapes.values())

    @torch.no_grad()
    def export(self) -> ExportedProgram:
        """Trace it. The result has no parameter that it does not use.

        Raises:
            ValueError: torch.export cannot trace the module.
        """
        dims = {name: Dim(name, min=1) for name in sorted({n for axes in self.dynamic.values() for n in axes.values()})}
        shapes = {
            name: {axis: dims[dim] for axis, dim in self.dynamic.get(name, {}).items()} or None for name in self.inputs
        }
        try:
            program = torch.export.export(
                self.module.eval(), tuple(self.inputs.values()), dynamic_shapes=self._nested(shapes), strict=False
            )
        except RuntimeError as error:  # torch.export's own errors are its subclasses
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"torch.export cannot trace the {self.name} of this model: {reason}") from error
        return without_unused(program)


def feature_names(model: OpenVocabularySegmenter) -> dict[str, dict[int, str]]:
    """Names of the maps between encoder and decoder, {role: {stride: name}}: "clip_features", and with the stride where
    the model reads several of an encoder, as it does of a backbone."""
    reads = model.reads | {role: tuple(backbone.out_channels) for role, backbone in model.backbones.items()}
    return {
        role: {stride: f"{role}_features" + (f"_{stride}" if len(strides) > 1 else "") for stride in strides}
        for role, strides in reads.items()
    }


def encoder_program(model: OpenVocabularySegmenter, image_size: int, features: Features) -> Program:
    """Image to features; S is `image_size`."""
    image = torch.zeros(_EXAMPLES, 3, image_size, image_size)
    return Program(
        name="encoder", module=ImageEncoder(model), inputs={"image": image}, dynamic={"image": {0: "batch"}}
    )


def decoder_program(model: OpenVocabularySegmenter, image_size: int, features: Features) -> Program:
    """Features to masks and embeddings."""
    names = [name for names in feature_names(model).values() for name in names.values()]
    inputs = {name: torch.zeros(_EXAMPLES, *features[name]) for name in names}
    return Program(
        name="decoder", module=MaskDecoder(model), inputs=inputs, dynamic={name: {0: "batch"} for name in inputs}
    )


def scorer_program(model: OpenVocabularySegmenter, image_size: int, features: Features) -> Program:
    """Embeddings and text to scores."""
    proposed = {
        "query_embeddings": torch.float32,
        "clip_embeddings": torch.float32,
        "clip_empty": torch.bool,
        "iou": torch.float32,
    }
    names, classes, most = 3 * _EXAMPLES, 2 * _EXAMPLES, _EXAMPLES
    inputs = {name: torch.zeros(_EXAMPLES, *features[name], dtype=dtype) for name, dtype in proposed.items()}
    text = {
        "text_embeddings": torch.zeros(names, model.clip.embed_dim),
        "class_rows": torch.zeros(classes, most, dtype=torch.int64),
        "class_seen": torch.zeros(classes, dtype=torch.bool),
    }
    axes = {"text_embeddings": {0: "names"}, "class_rows": {0: "classes", 1: "rows"}, "class_seen": {0: "classes"}}
    return Program(
        name="scorer",
        module=Scorer(model),
        inputs=inputs | text,
        dynamic={name: {0: "batch"} for name in inputs} | axes,
    )
