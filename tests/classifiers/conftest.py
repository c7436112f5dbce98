import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import ClassificationInputs
from possam.vocabulary import ClassEmbeddings


def _inputs(*, masks=40, classes=7, train_classes=5, width=16, shared=0, seed=0, **changes):
    """Random, with two names a class; the first ``shared`` classes are in the training vocabulary too."""
    generator = torch.Generator().manual_seed(seed)

    def unit(rows):
        return F.normalize(torch.randn(rows, width, generator=generator), dim=-1)

    names, train_names = unit(2 * classes), unit(2 * train_classes)
    names[: 2 * shared] = train_names[: 2 * shared]
    text = ClassEmbeddings(embeddings=names, class_index=torch.arange(2 * classes) // 2, num_classes=classes)
    train_text = ClassEmbeddings(
        embeddings=train_names, class_index=torch.arange(2 * train_classes) // 2, num_classes=train_classes
    )
    query_embeddings, clip_embeddings = unit(masks), unit(masks)
    void = 4 * torch.randn(masks, 1, generator=generator)
    fields = {
        "query_embeddings": query_embeddings,
        "clip_embeddings": clip_embeddings,
        "query_logits": torch.cat([text.logits(query_embeddings, 12.0), void], dim=1),
        "clip_logits": text.logits(clip_embeddings, 20.0),
        "iou": torch.rand(masks, generator=generator),
        "clip_empty": torch.rand(masks, generator=generator) < 0.2,
        "text": text,
        "train_text": train_text,
        "query_scale": 12.0,
        "clip_scale": 20.0,
        "exact_seen": torch.arange(classes) < shared,
    }
    return ClassificationInputs(**(fields | changes))


@pytest.fixture
def make_inputs():
    return _inputs
