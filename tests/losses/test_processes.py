"""Losses and gradients do not depend on how many processes, or forward passes, share a batch."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.decoders import MaskDecoder
from possam.losses import HungarianMatcher, ImageLabelCriterion, LabeledImage, LayerOutput, SetCriterion, Target
from possam.vocabulary import ClassEmbeddings

# Segments of the images of a batch, shared out in turn: the second process has none, or the first, or neither.
BATCHES = {"both": (3, 1, 0, 9), "first": (2, 0, 3, 0), "second": (0, 4, 0, 1), "neither": (0, 0, 0, 0)}
BATCHES["many"] = (1, 1, 0, 20)  # more than there are queries
# None: an image with labels and without masks, of which one process may have all and the other none.
BATCHES |= {"labels": (3, None, 0, None), "mixed": (None, 2, 4, None), "no masks": (None, None, None, None)}


class Trained(nn.Module):
    """What is trained of PosSAM after the pixel decoder, in little."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.decoder = MaskDecoder(channels=16, queries=6, layers=3, heads=2, feedforward=32)
        self.ldp = LocalDiscriminativePooling(channels=16, clip_channels=8, embed_dim=8, layers=1, heads=2)
        self.classifier = CosineClassifier(embed_dim=8)
        self.criterion = SetCriterion(matcher=HungarianMatcher(points=60), points=60)
        self.image_labels = ImageLabelCriterion()
        names = F.normalize(torch.randn(5, 8), dim=-1)
        self.text = ClassEmbeddings(embeddings=names, class_index=torch.arange(5), num_classes=5)

    def forward(self, images):
        targets = [target for _, target in images]
        labeled = self.image_labels.average(counts_of(targets), torch.device("cpu"))
        mask_features, clip, *scales = (torch.stack(parts) for parts in zip(*(x[0] for x in images), strict=True))
        layers = self.decoder(mask_features, scales)
        embeddings = self.ldp.embed_layers(
            [layer.queries for layer in layers], [layer.mask_logits for layer in layers], mask_features, clip
        )
        outputs = [
            LayerOutput(logits, layer.mask_embeddings, layer.iou)
            for logits, layer in zip(self.classifier(embeddings, self.text), layers, strict=True)
        ]
        losses = self.criterion(outputs, targets, mask_features)
        if labeled:
            found = [
                LabeledImage(logits[:, :-1], masks, features, iou, torch.tensor([0, 3]), torch.ones(8, 8))
                for logits, masks, iou, features, target in zip(*outputs[-1], mask_features, targets, strict=True)
                if not target.annotated
            ]
            losses |= self.image_labels(found, labeled, torch.device("cpu"))
        return losses


def counts_of(targets):
    return [len(target.labels) if target.annotated else None for target in targets]


def make_image(number, count):
    generator = torch.Generator().manual_seed(number)
    sizes = ((16, 8), (8, 4), (16, 1), (16, 2), (16, 4))
    features = [torch.randn(channels, side, side, generator=generator) for channels, side in sizes]
    if count is None:
        return features, Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 32, 32, dtype=torch.bool), False)
    coarse = torch.randn(1, max(count, 1), 4, 4, generator=generator)
    masks = F.interpolate(coarse, size=(32, 32), mode="bilinear")[0, :count] > 0
    return features, Target(torch.randint(0, 5, (count,), generator=generator), masks)


def step(model, counts, rank=0, processes=1, passes=1):
    """Losses and gradients of a step on this process's images of a batch, with several passes their means."""
    torch.manual_seed(1)  # as training seeds every step
    model.zero_grad(set_to_none=True)
    images = [make_image(number, count) for number, count in enumerate(counts)][rank::processes]
    share, means = len(images) // passes, {}
    bare, counts = getattr(model, "module", model), counts_of(target for _, target in images)
    with bare.criterion.accumulating(counts), bare.image_labels.accumulating(counts):
        for first in range(0, len(images), share):
            losses = {name: loss / passes for name, loss in model(images[first : first + share]).items()}
            sum(losses.values()).backward()
            means = {name: means.get(name, 0) + loss.detach() for name, loss in losses.items()}
    gradients = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return means, gradients


def assert_same(losses, gradients, expected, wanted):
    assert losses.keys() == expected.keys()
    for key, loss in expected.items():
        torch.testing.assert_close(losses[key], loss, atol=1e-6, rtol=1e-6)
    for key, gradient in wanted.items():
        largest = max(1, gradient.abs().max().item())
        torch.testing.assert_close(gradients[key], gradient, atol=4e-6 * largest, rtol=0)


@pytest.mark.parametrize("name", BATCHES)
def test_several_passes_learn_what_one_does(name):
    """However unevenly segments are spread over the passes, and where they are more than there are queries."""
    model = Trained()
    expected = step(model, BATCHES[name])
    for passes in (2, 4):
        assert_same(*step(model, BATCHES[name], passes=passes), *expected)
    torch.manual_seed(1)
    losses = model([make_image(number, count) for number, count in enumerate(BATCHES[name])])
    assert all(torch.equal(losses[key], loss) for key, loss in expected[0].items()), "what is left is a step of its own"


def _work(folder):
    rank = torch.distributed.get_rank()
    results = {}
    for static in (False, True):
        model = DistributedDataParallel(Trained(), static_graph=static)
        for (name, counts), passes in product(BATCHES.items(), (1,) if static else (1, 2)):
            losses, gradients = step(model, counts, rank, 2, passes)
            for loss in losses.values():
                torch.distributed.all_reduce(loss)
            results[name, static, passes] = {key: loss / 2 for key, loss in losses.items()}, gradients
    torch.save(results, f"{folder}/{rank}.pth")


def test_two_processes_learn_what_one_does(two_processes, tmp_path):
    """Also where one has no segment at all: nobody waits, and every parameter gets its gradient."""
    two_processes(_work, str(tmp_path))
    model = Trained()
    for rank in (0, 1):
        results = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        for (name, *_), (losses, gradients) in results.items():
            assert all(loss.isfinite() for loss in losses.values())
            assert_same(losses, gradients, *step(model, BATCHES[name]))
