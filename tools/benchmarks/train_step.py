"""A training step from the pyramid to the gradients, and its masks and losses alone, against the field's way.

That is layer by layer and image by image, every mask sampled and compared on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.case import Case, Work, relative_error
from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.decoders import DeformablePixelDecoder, MaskDecoder, MaskPrediction
from possam.decoders.mask_prediction import predict_masks
from possam.losses import HungarianMatcher, LayerOutput, SetCriterion, Target
from possam.vocabulary import ClassEmbeddings
from tests.reference.deformable_attention import decode_pixels
from tests.reference.linear import framework_linear
from tests.reference.losses import plain_losses
from tests.reference.mask_decoder import decode_masks

CLASSES, NAMES, QUERIES, LAYERS = 133, 254, 250, 10
CLIP_WIDTH, CLIP_STRIDE, EMBED_WIDTH = 1536, 32, 768
_REFERENCE = "layers and images in turn, as Mask2Former"


def cases(device: str) -> list[Case]:
    """COCO's classes and 250 queries, with COCO's usual dozen of segments an image, and with many."""
    return [
        Case(
            name="decoders and losses, 512×512, 1 image, 12 masks",
            reference=_REFERENCE,
            ours=partial(_step, device, ours=True),
            theirs=partial(_step, device, ours=False),
            error=relative_error,
            tolerance=1e-3,  # of losses: masks cut at 0 for attention turn rounding into pixels
            time_target=0.6,
        ),
        Case(
            name="masks, embeddings and losses, 512×512, 1 image, 12 masks",
            reference=_REFERENCE,
            ours=partial(_losses, device, 512, (12,), ours=True),
            theirs=partial(_losses, device, 512, (12,), ours=False),
            error=relative_error,
            tolerance=1e-5,
        ),
        Case(
            name="masks, embeddings and losses, 1024×1024, 2 images, 40 and 20 masks",
            reference=_REFERENCE,
            ours=partial(_losses, device, 1024, (40, 20), ours=True),
            theirs=partial(_losses, device, 1024, (40, 20), ours=False),
            error=relative_error,
            tolerance=1e-5,
            runs=1,
        ),
    ]


class _Head(nn.Module):
    """What follows the decoders in training."""

    names: Tensor
    clip: Tensor

    def __init__(self, side: int, segments: Sequence[int]) -> None:
        super().__init__()
        self.ldp = LocalDiscriminativePooling(channels=256, clip_channels=CLIP_WIDTH, embed_dim=EMBED_WIDTH)
        self.classifier = CosineClassifier(embed_dim=EMBED_WIDTH)
        self.criterion = SetCriterion(matcher=HungarianMatcher())
        self.register_buffer("names", F.normalize(torch.randn(NAMES, EMBED_WIDTH), dim=-1))
        self.register_buffer("clip", torch.randn(len(segments), CLIP_WIDTH, side // CLIP_STRIDE, side // CLIP_STRIDE))
        for index, count in enumerate(segments):
            smooth = F.interpolate(torch.randn(1, count, 6, 6), size=(side, side), mode="bicubic")[0]
            self.register_buffer(f"masks{index}", smooth > 0.3)
            self.register_buffer(f"labels{index}", torch.randint(0, CLASSES, (count,)))

    def forward(self, layers: Sequence[MaskPrediction], mask_features: Tensor, ours: bool) -> dict[str, Tensor]:
        text = ClassEmbeddings(
            embeddings=self.names,
            class_index=torch.arange(NAMES, device=self.names.device) % CLASSES,
            num_classes=CLASSES,
        )
        targets = [
            Target(getattr(self, f"labels{index}"), getattr(self, f"masks{index}")) for index in range(len(self.clip))
        ]
        queries, masks = [layer.queries for layer in layers], [layer.mask_logits for layer in layers]
        if ours:
            class_logits = self.classifier(self.ldp.embed_layers(queries, masks, mask_features, self.clip), text)
        else:
            with framework_linear():
                class_logits = [
                    self.classifier(self.ldp(*layer, mask_features, self.clip), text)
                    for layer in zip(queries, masks, strict=True)
                ]
        outputs = [LayerOutput(x, y.mask_embeddings, y.iou) for x, y in zip(class_logits, layers, strict=True)]
        torch.manual_seed(1)
        if ours:
            return self.criterion(outputs, targets, mask_features)
        drawn = self.criterion.draw_points(len(targets), self.names.device)
        return plain_losses(
            outputs,
            masks,
            targets,
            drawn,
            weights=self.criterion.weights,
            no_object_weight=self.criterion.no_object_weight,
            points=self.criterion.points,
        )


def _step(device: str, *, ours: bool) -> Work:
    torch.manual_seed(0)
    pixels, masks, head = DeformablePixelDecoder(), MaskDecoder(queries=QUERIES, layers=LAYERS - 1), _Head(512, (12,))
    trained = nn.ModuleList([pixels, masks, head]).to(device)
    pyramid = {
        stride: torch.randn(1, 256, 512 // stride, 512 // stride).to(device).requires_grad_()
        for stride in (4, 8, 16, 32)
    }

    def work() -> Tensor:
        trained.zero_grad(set_to_none=True)
        if ours:
            mask_features, scales = pixels(pyramid)
            layers = masks(mask_features, scales)
        else:
            mask_features, scales = decode_pixels(pixels, pyramid)
            layers = decode_masks(masks, mask_features, scales)
        losses = head(layers, mask_features, ours)
        sum(losses.values(), torch.zeros((), device=device)).backward()
        return torch.stack([losses[name].detach() for name in sorted(losses)])

    return work


def _losses(device: str, side: int, segments: Sequence[int], *, ours: bool) -> Work:
    torch.manual_seed(0)
    head, images, cells = _Head(side, segments).to(device), len(segments), side // 4
    mask_features = torch.randn(images, 256, cells, cells).to(device).requires_grad_()
    widths = (256, 256, 1)
    drawn = [
        [torch.randn(images, QUERIES, width).to(device).requires_grad_() for width in widths] for _ in range(LAYERS)
    ]
    leaves = [mask_features, *(x for layer in drawn for x in layer), *head.parameters()]

    def work() -> Tensor:
        embeddings = [x for _, x, _ in drawn]
        plain = (torch.einsum("bqc,bchw->bqhw", x, mask_features) for x in embeddings)
        masks = predict_masks(embeddings, mask_features) if ours else plain
        layers = [
            MaskPrediction(queries, x, mask, iou.squeeze(2).sigmoid())
            for (queries, x, iou), mask in zip(drawn, masks, strict=True)
        ]
        losses = head(layers, mask_features, ours)
        gradients = torch.autograd.grad(sum(losses.values(), torch.zeros((), device=device)), leaves)
        return torch.stack([*(losses[name].detach() for name in sorted(losses)), *(x.norm() for x in gradients)])

    return work
