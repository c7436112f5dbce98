"""Deformable attention and the pixel decoder against the field's way without a build step: `grid_sample` a level."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Work, relative_error
from possam.decoders import DeformablePixelDecoder
from possam.layers import deformable_sampling, level_reference_points
from tests.reference import deformable_attention as plain

IMAGE = (480, 640)
LEVELS = [(IMAGE[0] // stride, IMAGE[1] // stride) for stride in (32, 16, 8)]
_HEADS, _DEPTH, _POINTS = 8, 32, 4
_REFERENCE = "grid_sample, samples of all levels stacked"


def cases(device: str) -> list[Case]:
    """The pixel decoder, and the sampling of one layer with its gradients; on CUDA also in half precision."""
    found = [
        Case(
            name="pixel decoder, 6 layers, 640×480",
            reference=_REFERENCE,
            ours=lambda: _pixel_decoder(device, ours=True),
            theirs=lambda: _pixel_decoder(device, ours=False),
            error=relative_error,
            tolerance=1e-5 if device == "cpu" else 1e-3,
            time_target=0.6,
        )
    ]
    for dtype in (torch.float32,) if device == "cpu" else (torch.float32, torch.bfloat16, torch.float16):
        for gradients in (False, True):
            name = f"sampling of one layer, 640×480, {str(dtype).removeprefix('torch.')}"
            found.append(
                Case(
                    name=name + (", with gradients" if gradients else ""),
                    reference=_REFERENCE,
                    ours=partial(_sampling, device, dtype, gradients, ours=True),
                    theirs=partial(_sampling, device, dtype, gradients, ours=False),
                    error=relative_error,
                    tolerance=1e-5 if device == "cpu" else 1e-3 if dtype == torch.float32 else 1e-2,
                    time_target=None if device == "cpu" else 1 / 3,
                )
            )
    return found


def _pixel_decoder(device: str, *, ours: bool) -> Work:
    torch.manual_seed(0)
    decoder = DeformablePixelDecoder().eval()
    for name, parameter in decoder.named_parameters():
        # as trained ones, which look neither at whole positions nor the same way everywhere
        if name.endswith(("sampling_offsets.weight", "attention_weights.weight")):
            nn.init.normal_(parameter, std=0.05)
    decoder.to(device)
    pyramid = {
        stride: torch.randn(1, 256, IMAGE[0] // stride, IMAGE[1] // stride).to(device) for stride in (4, 8, 16, 32)
    }

    @torch.no_grad()
    def work() -> Tensor:
        features, scales = decoder(pyramid) if ours else plain.decode_pixels(decoder, pyramid)
        return torch.cat([x.flatten() for x in (features, *scales)])

    return work


def _sampling(device: str, dtype: torch.dtype, gradients: bool, *, ours: bool) -> Work:
    torch.manual_seed(0)
    queries = sum(height * width for height, width in LEVELS)
    shape = (1, queries, _HEADS, len(LEVELS), _POINTS)
    value = torch.randn(1, queries, _HEADS, _DEPTH).to(device, dtype)
    pixels = torch.tensor([(2 / width, 2 / height) for height, width in LEVELS])[:, None]
    centers = 2 * level_reference_points(LEVELS)[:, None, None, None] - 1
    grid = (centers + 2 * torch.randn(*shape, 2) * pixels).to(device)
    weights = torch.rand(shape).to(device)
    leaves = [x.requires_grad_(gradients) for x in (value, grid, weights)]

    def work() -> Tensor:
        if ours:
            output = deformable_sampling(leaves[0], LEVELS, *leaves[1:])
        else:
            output = plain.sample(leaves[0].float(), LEVELS, *leaves[1:])
        if not gradients:
            return output
        return torch.cat([x.float().flatten() for x in torch.autograd.grad(output.float().square().sum(), leaves)])

    return work
