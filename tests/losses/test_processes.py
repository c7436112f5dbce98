"""Losses and gradients do not depend on how many processes share a batch."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.decoders import MaskDecoder
from possam.losses import HungarianMatcher, LayerOutput, SetCriterion, Target
from possam.vocabulary import ClassEmbeddings

# Segments of the images of a batch, shared out in turn: the second process has none, or the first, or neither.
BATCHES = {"both": (3, 1, 0, 9), "first": (2, 0, 3, 0), "second": (0, 4, 0, 1), "neither": (0, 0, 0, 0)}


class Trained(nn.Module):
    """What is trained of PosSAM after the pixel decoder, in little."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.decoder = MaskDecoder(channels=16, queries=6, layers=3, heads=2, feedforward=32)
        self.ldp = LocalDiscriminativePooling(channels=16, clip_channels=8, embed_dim=8, layers=1, heads=2)
        self.classifier = CosineClassifier(embed_dim=8)
        self.criterion = SetCriterion(matcher=HungarianMatcher(points=60), points=60)
        names = F.normalize(torch.randn(5, 8), dim=-1)
        self.text = ClassEmbeddings(embeddings=names, class_index=torch.arange(5), num_classes=5)

    def forward(self, images):
        mask_features, clip, *scales = (torch.stack(parts) for parts in zip(*(x[0] for x in images), strict=True))
        layers = self.decoder(mask_features, scales)
        embeddings = self.ldp.embed_layers(
            [layer.queries for layer in layers], [layer.mask_logits for layer in layers], mask_features, clip
        )
        outputs = [
            LayerOutput(logits, layer.mask_embeddings, layer.iou)
            for logits, layer in zip(self.classifier(embeddings, self.text), layers, strict=True)
        ]
        return self.criterion(outputs, [target for _, target in images], mask_features)


def make_image(number, count):
    generator = torch.Generator().manual_seed(number)
    sizes = ((16, 8), (8, 4), (16, 1), (16, 2), (16, 4))
    features = [torch.randn(channels, side, side, generator=generator) for channels, side in sizes]
    coarse = torch.randn(1, max(count, 1), 4, 4, generator=generator)
    masks = F.interpolate(coarse, size=(32, 32), mode="bilinear")[0, :count] > 0
    return features, Target(torch.randint(0, 5, (count,), generator=generator), masks)


def step(model, counts, rank=0, processes=1):
    """Losses and gradients of a step on this process's images of a batch."""
    torch.manual_seed(1)  # as training seeds every step
    model.zero_grad(set_to_none=True)
    images = [make_image(number, count) for number, count in enumerate(counts)]
    losses = model(images[rank::processes])
    sum(losses.values()).backward()
    gradients = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


def _work(folder):
    rank = torch.distributed.get_rank()
    results = {}
    for static in (False, True):
        model = DistributedDataParallel(Trained(), static_graph=static)
        for name, counts in BATCHES.items():
            losses, gradients = step(model, counts, rank, 2)
            for loss in losses.values():
                torch.distributed.all_reduce(loss)
            results[name, static] = {key: loss / 2 for key, loss in losses.items()}, gradients
    torch.save(results, f"{folder}/{rank}.pth")


def test_two_processes_learn_what_one_does(two_processes, tmp_path):
    """Also where one has no segment at all: nobody waits, and every parameter gets its gradient."""
    two_processes(_work, str(tmp_path))
    model = Trained()
    for rank in (0, 1):
        results = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        for (name, _), (losses, gradients) in results.items():
            expected, wanted = step(model, BATCHES[name])
            assert all(loss.isfinite() for loss in losses.values())
            for key, loss in expected.items():
                torch.testing.assert_close(losses[key], loss, atol=1e-6, rtol=1e-6)
            for key, gradient in wanted.items():
                largest = max(1, gradient.abs().max().item())
                torch.testing.assert_close(gradients[key], gradient, atol=1e-6 * largest, rtol=0)
