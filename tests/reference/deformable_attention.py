"""Deformable attention and the pixel decoder as the field computes them where nothing was compiled.

Every level is sampled by ``grid_sample``, the samples of all levels are laid side by side, and their weighted sum is
taken. Written from Deformable DETR (equation 3) and Mask2Former (3.2), with the weights of this project's modules.
"""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from possam.decoders import DeformablePixelDecoder
from possam.layers import MultiScaleDeformableAttention
from tests.reference.linear import framework_linear

Sizes = Sequence[tuple[int, int]]


def sample(value: Tensor, sizes: Sizes, grid: Tensor, weights: Tensor) -> Tensor:
    """As `possam.layers.deformable_sampling`."""
    batch, _, heads, depth = value.shape
    samples = []
    for level, part in enumerate(value.split([height * width for height, width in sizes], dim=1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, depth, *sizes[level])
        places = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (B·M)×Q×P×2
        samples.append(F.grid_sample(image, places, mode="bilinear", padding_mode="zeros", align_corners=False))
    together = torch.stack(samples, dim=3).flatten(3)  # (B·M)×D×Q×(L·P)
    shares = weights.transpose(1, 2).flatten(0, 1).flatten(2)[:, None]  # (B·M)×1×Q×(L·P)
    return (together * shares).sum(-1).view(batch, heads * depth, -1).transpose(1, 2).contiguous()


def attend(
    module: MultiScaleDeformableAttention, query: Tensor, reference: Tensor, memory: Tensor, sizes: Sizes
) -> Tensor:
    """As `MultiScaleDeformableAttention.forward`."""
    shape = (module.heads, module.levels, module.points)
    offsets = module.sampling_offsets(query).unflatten(-1, (*shape, 2))
    weights = module.attention_weights(query).unflatten(-1, (module.heads, -1)).softmax(-1).unflatten(-1, shape[1:])
    extent = torch.tensor([(width, height) for height, width in sizes], device=query.device)
    locations = reference[:, None, None, None] + offsets / extent[:, None]
    value = module.value_proj(memory).unflatten(-1, (module.heads, -1))
    return module.output_proj(sample(value, sizes, 2 * locations - 1, weights))


@framework_linear()
def decode_pixels(decoder: DeformablePixelDecoder, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """As `DeformablePixelDecoder.forward`."""
    maps = [project(pyramid[stride]) for stride, project in zip((32, 16, 8), decoder.input_projections, strict=True)]
    sizes = [(x.shape[2], x.shape[3]) for x in maps]
    x = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
    positions, centers = [], []
    for level, (height, width) in enumerate(sizes):
        encoding = decoder.position(maps[level]).flatten(1).T
        positions.append(encoding + decoder.level_embedding.weight[level])
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers.append(torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=-1).flatten(0, 1))
    position, center = torch.cat(positions), torch.cat(centers).to(x.device)
    for layer in decoder.layers:
        x = layer.norm1(x + attend(layer.attention, x + position, center, x, sizes))
        x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
    scales, start = [], 0
    for height, width in sizes:
        scales.append(x[:, start : start + height * width].transpose(1, 2).unflatten(2, (height, width)))
        start += height * width
    resized = F.interpolate(scales[-1], size=pyramid[4].shape[-2:], mode="bilinear", align_corners=False)
    return decoder.mask_features(decoder.smooth(decoder.lateral(pyramid[4]) + resized)), scales
