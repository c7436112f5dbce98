"""Pre-trains the miniature world's trained backbone as a classifier of pictures, as ImageNet's are.

A picture is a view of one segment of everything the world can draw, about 1.1 to 1.6 times as large as in a scene. Its
label is the segment's kind; masks and names are not used. The classifier is left out of the fp16 safetensors that are
written.

    python tools/pretrain_mini_backbone.py --output possam/backbones/weights/mini_r.safetensors
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import torch
from pretrain_mini_clip import Crops, batches, draw_crops
from pretrain_mini_sam import cosine_schedule, run_training, save
from torch import Tensor, nn
from torch.nn import functional as F

from possam.backbones import TrainedBackbone, build_backbone
from possam.data.miniature.lexicon import EVERYTHING
from possam.utils.files import full_path
from possam.utils.output import run_command

_TRAIN, _HELD_OUT = 11, 12  # seeds of the pictures; the CLIPs are trained on others


class Classifier(nn.Module):
    """The backbone's last map, pooled over the picture, and a linear layer."""

    def __init__(self, backbone: TrainedBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.out_channels[32], len(EVERYTHING.kinds))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels B×S×S×3 uint8 RGB → B×K logits of the kinds."""
        images = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), 2)  # the CLIPs see pictures twice as large
        side = math.ceil(images.shape[-1] / 32) * 32  # the last map's stride
        images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        logits: Tensor = self.fc(self.backbone(images)[32].mean(dim=(2, 3)))
        return logits


@torch.no_grad()
def accuracy(classifier: Classifier, pictures: Crops) -> float:
    """Share of the pictures whose kind is named."""
    parts = zip(pictures.pixels.split(256), pictures.kinds.split(256), strict=True)
    return sum(int((classifier(pixels).argmax(1) == kinds).sum()) for pixels, kinds in parts) / len(pictures.kinds)


def train(args: argparse.Namespace) -> None:
    """The whole pre-training; every random number comes from `args.seed`."""
    torch.manual_seed(args.seed)
    start = time.process_time()
    stream = batches(
        draw_crops(args.pictures, seed=_TRAIN), args.batch, generator=torch.Generator().manual_seed(args.seed)
    )
    held_out = draw_crops(2000, seed=_HELD_OUT)
    classifier = Classifier(build_backbone(name="mini_r"))
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=args.lr, weight_decay=0.05)
    schedule = cosine_schedule(optimizer, steps=args.steps, warmup=min(100, args.steps // 10 + 1))
    for step in range(1, args.steps + 1):
        pictures = next(stream)
        loss = F.cross_entropy(classifier(pictures.pixels), pictures.kinds, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % args.every == 0 or step == args.steps:
            save(classifier.backbone.get_submodule("body"), args.output)
            found, seconds = accuracy(classifier, held_out), time.process_time() - start
            print(f"step {step} loss {loss.item():.3f} held-out accuracy {found:.3f} {seconds:.0f} CPU-s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=full_path, required=True, help="the safetensors file to write")
    parser.add_argument("--pictures", type=int, default=40_000, help="training pictures, drawn once")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between files")
    run_training(parser, train)


if __name__ == "__main__":
    sys.exit(run_command(main))
