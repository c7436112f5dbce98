"""Pre-trains the miniature world's SAM encoder from point prompts and writes its weights as fp16 safetensors.

The encoder sees everything the world can draw, classes and names play no part: a point in, the mask of the
segment under it out, as SAM was trained. A lean head that is thrown away afterwards answers the prompts: it
lifts the features to stride 2 and compares every pixel with the prompted one. Its loss thus asks the frozen
features for what a decoder needs later, segments that differ by a dot product and borders finer than a patch.
Every step resizes its images to one of the sizes that the miniature models read.

    python tools/pretrain_mini_sam.py --output possam/encoders/weights/mini_sam.safetensors

Shape legend: B images, P prompts an image, D width of the pixel embedding, C encoder channels, S side of the
scenes, T side of the images as they are read, G = T/2 side of the predicted masks.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from possam.data.miniature.lexicon import EVERYTHING
from possam.data.miniature.world import SIZE, draw_scene
from possam.encoders.sam import PIXEL_MEAN, PIXEL_STD, build_image_encoder, resize_positions
from possam.utils.files import full_path, write_atomically
from possam.utils.output import run_command

_TRAIN, _HELD_OUT = 101, 102  # first seed of the scenes; no split of the data set uses them


class PointHead(nn.Module):
    """Masks from point prompts on encoder features."""

    def __init__(self, *, channels: int, width: int = 32) -> None:
        super().__init__()
        middle = max(width, channels // 2)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(channels, middle, 2, stride=2),
            nn.GroupNorm(1, middle),
            nn.GELU(),
            nn.ConvTranspose2d(middle, width, 2, stride=2),
        )
        self.query = nn.Sequential(
            nn.Linear(channels + width, 2 * channels), nn.GELU(), nn.Linear(2 * channels, width + 1)
        )

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """features B×C×T/8×T/8; points B×P×2 (x, y) in [-1, 1] over the image → mask logits B×P×G×G."""
        fine = self.up(features)
        at = points[:, :, None]
        samples = [
            F.grid_sample(f, at, align_corners=False)[..., 0].transpose(1, 2) for f in (features, fine)
        ]
        query = self.query(torch.cat(samples, -1))
        return torch.einsum("bpd,bdhw->bphw", query[..., :-1], fine) + query[..., -1:, None]


def draw(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Scenes of everything: images count×3×S×S uint8 RGB and ids count×S×S uint8."""
    images = torch.empty((count, 3, SIZE, SIZE), dtype=torch.uint8)
    ids = torch.empty((count, SIZE, SIZE), dtype=torch.uint8)
    for index in range(count):
        scene = draw_scene([seed, index], EVERYTHING)
        images[index] = torch.from_numpy(scene.image).permute(2, 0, 1)
        ids[index] = torch.from_numpy(scene.ids.astype(np.uint8))
    return images, ids


def prompt(ids: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random points, every segment of an image equally likely.

    Returns points B×P×2 (x, y) in [-1, 1] and the masks under them, B×P×S×S bool.
    """
    flat = ids.flatten(1).long()
    areas = torch.zeros(len(flat), int(flat.max()) + 1).scatter_add_(1, flat, torch.ones(flat.shape))
    weight = 1.0 / areas.gather(1, flat)
    index = torch.multinomial(weight, count, replacement=True, generator=generator)
    side = ids.shape[-1]
    points = (torch.stack([index % side, index // side], -1).float() + 0.5) / side * 2 - 1
    return points, ids[:, None] == flat.gather(1, index)[..., None, None]


def loss_of(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and dice of mask logits B×P×G×G against masks B×P×S×S; both weighed alike over
    segments."""
    target = F.adaptive_avg_pool2d(masks.float(), logits.shape[-1])
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum((-2, -1)) + 1
    dice = 1 - overlap / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)
    return 4 * entropy + dice.mean()


def encode(encoder: Any, images: Tensor, size: int) -> Tensor:
    """Features B×C×T/8×T/8 of images B×3×S×S uint8 read at T = `size`, normalized and placed as by `FrozenSAM`."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    pixels = images.float()
    if size != pixels.shape[-1]:
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    x = encoder.patch_embed((pixels - mean) / std)
    x = x + resize_positions(encoder.pos_embed, x.shape[1], x.shape[2])
    for block in encoder.blocks:
        x = block(x)
    features: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return features


@torch.no_grad()
def held_out_iou(encoder: nn.Module, head: PointHead, images: Tensor, ids: Tensor, size: int) -> float:
    """Mean IoU, at full resolution, of one prompt for each of 8 draws of segments an image."""
    generator = torch.Generator().manual_seed(0)
    encoder.eval()
    values = []
    for start in range(0, len(images), 32):
        points, masks = prompt(ids[start : start + 32], 8, generator)
        logits = head(encode(encoder, images[start : start + 32], size), points)
        found = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False) > 0
        values.append((found & masks).sum((-2, -1)) / (found | masks).sum((-2, -1)))
    encoder.train()
    return float(torch.cat(values).mean())


def save(module: nn.Module, path: Path) -> None:
    """Write a module's state dict as fp16 safetensors, all of it or nothing."""
    state = {key: value.detach().half().contiguous() for key, value in module.state_dict().items()}
    write_atomically(path, lambda file: file.write(serialize(state)))


def cosine_schedule(optimizer: torch.optim.Optimizer, *, steps: int, warmup: int) -> LambdaLR:
    """A linear warmup, then a half cosine down to a thousandth of the learning rate."""
    return LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3)
    )


def run_training(parser: argparse.ArgumentParser, train: Callable[[argparse.Namespace], None]) -> None:
    """Add --seed, parse the command line and run `train` on one thread."""
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train(args)


def train(args: argparse.Namespace) -> None:
    """The whole pre-training; every random number comes from `args.seed`."""
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    start = time.monotonic()
    images, ids = draw(_TRAIN, args.scenes)
    held_images, held_ids = draw(_HELD_OUT, args.held_out)
    print(f"drew {args.scenes + args.held_out} scenes in {time.monotonic() - start:.0f} s", flush=True)
    encoder = build_image_encoder("mini")
    assert encoder.pos_embed is not None
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)
    head = PointHead(channels=encoder.neck[0].out_channels)
    parameters = [*encoder.parameters(), *head.parameters()]
    decayed = [p for p in parameters if p.dim() > 1]
    plain = [p for p in parameters if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=args.lr
    )
    schedule = cosine_schedule(optimizer, steps=args.steps, warmup=min(200, args.steps // 10 + 1))
    for step in range(1, args.steps + 1):
        pick = torch.randint(len(images), (args.batch,), generator=generator)
        flips = [axis for axis in (-1, -2) if torch.rand((), generator=generator) < 0.5]
        size = args.sizes[int(torch.randint(len(args.sizes), (), generator=generator))]
        points, masks = prompt(ids[pick].flip(flips), args.prompts, generator)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the CPU has it
            features = encode(encoder, images[pick].flip(flips), size)
        loss = loss_of(head(features.float(), points), masks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - start:.0f} s", flush=True)
        if step % args.every == 0 or step == args.steps:
            save(encoder, args.output)
            iou = {size: round(held_out_iou(encoder, head, held_images, held_ids, size), 4) for size in args.sizes}
            print(f"step {step} held-out IoU {iou} {time.monotonic() - start:.0f} s", flush=True)


def _side(text: str) -> int:
    if not text.isdecimal() or int(text) == 0 or int(text) % 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive multiple of 8, the side of a patch")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=full_path, required=True, help="the safetensors file to write")
    parser.add_argument(
        "--sizes", type=_side, nargs="+", default=[128, 160], metavar="N", help="sides of the images, multiples of 8"
    )
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes, drawn once")
    parser.add_argument("--held-out", type=int, default=128, help="scenes to measure on")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=16, help="points an image")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    run_training(parser, train)


if __name__ == "__main__":
    sys.exit(run_command(main))
