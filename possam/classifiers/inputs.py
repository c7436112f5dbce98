"""Embeddings and logits of the masks of one image, from which an ensemble makes scores."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from possam.vocabulary import ClassEmbeddings


@dataclass(frozen=True, kw_only=True)
class ClassificationInputs:
    """Inputs of the ensembles: Q masks and the K classes of the vocabulary in use; all tensors on one device.

    Args:
        query_embeddings: Q×D float unit rows, class embeddings of the trained head (G_ldp in METHOD.md 1).
        clip_embeddings: Q×D float unit rows, mask-pooled F_clip in CLIP's joint space.
        query_logits: Q×(K+1) float, in-vocabulary logits; the last is void.
        clip_logits: Q×K float, out-of-vocabulary logits.
        iou: Q float in [0, 1], P_iou.
        clip_empty: Q bool, True for a mask with no pixel at CLIP's resolution; its CLIP rows mean nothing.
        text: names of the vocabulary in use.
        train_text: names of the training vocabulary.
        query_scale, clip_scale: τ of `query_logits` and of `clip_logits`.
        exact_seen: K bool, classes that share a name with the training vocabulary.
        background: how many of the K classes, the last ones, are background words (`possam.vocabulary.background`):
            training classes that compete, without being asked for.

    Raises:
        ValueError: shapes disagree; the message names the field.
    """

    query_embeddings: Tensor
    clip_embeddings: Tensor
    query_logits: Tensor
    clip_logits: Tensor
    iou: Tensor
    clip_empty: Tensor
    text: ClassEmbeddings
    train_text: ClassEmbeddings
    query_scale: float
    clip_scale: float
    exact_seen: Tensor
    background: int = 0

    @property
    def void(self) -> Tensor:
        """v, the in-vocabulary classifier's probability that a mask is nothing: Q float32."""
        return self.query_logits.float().softmax(dim=-1)[:, -1]

    def __post_init__(self) -> None:
        masks, classes, width = self.iou.shape[0], self.text.num_classes, self.text.embeddings.shape[1]
        expected = {
            "query_embeddings": (masks, width),
            "clip_embeddings": (masks, width),
            "query_logits": (masks, classes + 1),
            "clip_logits": (masks, classes),
            "iou": (masks,),
            "clip_empty": (masks,),
            "exact_seen": (classes,),
        }
        for field, shape in expected.items():
            got = tuple(getattr(self, field).shape)
            if got != shape:
                raise ValueError(
                    f"{field} must be of shape {shape} for {masks} masks and {classes} classes, got {got}"
                )
