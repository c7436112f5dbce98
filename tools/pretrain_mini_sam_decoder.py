"""Pre-trains the prompt encoder and the mask decoder of the miniature world's SAM, and writes fp16 safetensors.

They are SAM's own, at the size of configs/mini/ovsam.yaml, over the shipped image encoder, whose features are computed
once. Classes and names play no part: points and boxes of segments of everything the world can draw are the input, their
masks the target, as SAM was trained. A second round adds a point to every prompt where its mask was wrong, on the
segment or outside it, so that prompts of several points work, too. Keys of the file are those of SAM's checkpoints.

    python tools/pretrain_mini_sam_decoder.py --output possam/decoders/weights/mini_sam_decoder.safetensors

Shapes: B images, S side of an image in pixels, T segments of an image, N prompts of it, C channels of the features.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from pretrain_mini_sam import draw
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn import functional as F

from possam.data.prompts import PromptSampler
from possam.decoders import PromptedDecoder, PromptedMasks, PromptEncoder
from possam.decoders.prompt_decoding import ambiguous_prompts, best_masks, decode_prompts
from possam.encoders import FrozenSAM
from possam.files import full_path, write_atomically
from possam.layers.prompts import Prompts
from possam.losses import Assignment, PromptedCriterion, PromptedOutput, Target
from possam.output import run_command

_TRAIN, _HELD_OUT = 103, 104  # first seed of the scenes; no split of the data set uses them
_STRIDE = 8


class Decoder(nn.Module):
    """SAM without its image encoder; the names of its parameters are those of SAM's checkpoints."""

    def __init__(self, *, channels: int, heads: int, dim_feedforward: int) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder(channels=channels)
        self.mask_decoder = PromptedDecoder(
            embed_dim=1, stride=_STRIDE, channels=channels, heads=heads, dim_feedforward=dim_feedforward,
            label_token=False,
        )  # fmt: skip
        for buffer in self.prompt_encoder.buffers():
            buffer.copy_(buffer.half())  # train with what the file will hold

    def forward(self, features: Tensor, prompts: Prompts) -> PromptedMasks:
        """features C×S/8×S/8 of one image."""
        embedding = features[None].float() + self.prompt_encoder.no_mask
        return decode_prompts(self.prompt_encoder, self.mask_decoder, embedding, prompts, stride=_STRIDE)


def masks_of(ids: Tensor) -> Tensor:
    """S×S ids of segments to T×S×S bool."""
    return ids == ids.unique()[:, None, None]


@torch.no_grad()
def full_masks(masks: PromptedMasks, prompts: Prompts, size: tuple[int, int], *, multimask: bool = True) -> Tensor:
    """The answer to each prompt at full resolution, N×S×S bool."""
    best = best_masks(masks, prompts, multimask=multimask)
    logits = masks.mask_logits[torch.arange(len(best)), best]
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0] > 0


def correct(prompts: Prompts, found: Tensor, wanted: Tensor) -> Prompts:
    """Prompts with one more point each: a random pixel where the mask found is wrong, or else one of the segment."""
    wrong = found != wanted
    wrong[~wrong.flatten(1).any(1)] = True
    wrong &= wanted | found
    index = torch.multinomial(wrong.flatten(1).float(), 1)
    points = torch.cat([index % wanted.shape[-1], index // wanted.shape[-1]], dim=1).float()[:, None]
    labels = wanted.flatten(1).gather(1, index).long()
    return Prompts(
        points=torch.cat([prompts.points, points], dim=1),
        labels=torch.cat([prompts.labels, labels], dim=1),
        boxes=prompts.boxes,
        has_box=prompts.has_box,
    )


def losses(
    model: Decoder, criterion: PromptedCriterion, sampler: PromptSampler, batch: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """The loss of both rounds of prompts of some images, features C×S/8×S/8 and ids S×S each."""
    outputs, targets, given = [], [], []
    for features, ids in batch:
        masks = masks_of(ids)
        prompts, index = sampler(masks)
        for last in (False, True):
            decoded = model(features, prompts)
            outputs.append(PromptedOutput(torch.zeros(len(prompts), 1), decoded.mask_logits, decoded.iou))
            targets.append(Target(torch.full((len(masks),), -1), masks))
            given.append(Assignment(index, ambiguous_prompts(prompts)))
            if not last:
                prompts = correct(prompts, full_masks(decoded, prompts, (ids.shape[0], ids.shape[1])), masks[index])
    total: Tensor = torch.stack(list(criterion(outputs, targets, given).values())).sum()
    return total


@torch.no_grad()
def held_out_ious(model: Decoder, features: Tensor, ids: Tensor) -> dict[str, float]:
    """Mean IoU in percent of 8 points and 8 boxes an image, and after one correcting point."""
    np.random.seed(0)
    values: dict[str, list[Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for maps, own in zip(features, ids, strict=True):
            masks, size = masks_of(own), (own.shape[0], own.shape[1])
            for kind, boxes in (("point", 0), ("box", 8)):
                prompts, index = PromptSampler(prompts=8, boxes=boxes)(masks)
                decoded, wanted = model(maps, prompts), masks[index]
                found = full_masks(decoded, prompts, size)
                more = correct(prompts, found, wanted)
                answers = {kind: found, f"{kind}, corrected": full_masks(model(maps, more), more, size)}
                if not boxes:
                    answers["point, mask 0"] = full_masks(decoded, prompts, size, multimask=False)
                for name, answer in answers.items():
                    iou = (answer & wanted).sum((1, 2)) / (answer | wanted).sum((1, 2))
                    values.setdefault(name, []).append(iou)
    return {name: 100 * float(torch.cat(ious).mean()) for name, ious in values.items()}


@torch.no_grad()
def encode(encoder: FrozenSAM, images: Tensor) -> Tensor:
    """B×3×S×S uint8 images to B×C×S/8×S/8 float16 features."""
    return torch.cat([encoder.final(part.float()).half() for part in images.split(64)])


def save(model: Decoder, path: Path) -> None:
    """Write the state dict as fp16 safetensors, all or nothing."""
    state = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    write_atomically(path, lambda file: file.write(serialize(state)))


def train(args: argparse.Namespace) -> None:
    """The whole training; every random number comes from `args.seed`."""
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    start = time.monotonic()
    encoder = FrozenSAM.build(name="mini", weights="shipped")
    images, ids = draw(_TRAIN, args.scenes)
    features = encode(encoder, images)
    held_images, held_ids = draw(_HELD_OUT, args.held_out)
    held = encode(encoder, held_images)
    print(f"drew and encoded {len(images) + len(held)} scenes in {time.monotonic() - start:.0f} s", flush=True)
    model = Decoder(
        channels=encoder.out_channels[_STRIDE], heads=args.heads, dim_feedforward=args.dim_feedforward
    )
    sampler = PromptSampler(prompts=args.prompts, boxes=args.prompts // 2)
    criterion = PromptedCriterion(points=1024)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    warmup = min(50, args.steps // 10 + 1)

    def factor(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / args.steps)) + 1e-3)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(1, args.steps + 1):
        pick = torch.randint(len(features), (args.batch,))
        loss = losses(model, criterion, sampler, [(features[place], ids[place]) for place in pick])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - start:.0f} s", flush=True)
        if step % args.every == 0 or step == args.steps:
            save(model, args.output)
            ious = ", ".join(f"{name} {value:.1f}" for name, value in held_out_ious(model, held, held_ids).items())
            print(f"step {step} held-out mean IoU: {ious}; {time.process_time():.0f} CPU-s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=full_path, required=True, help="the safetensors file to write")
    parser.add_argument("--scenes", type=int, default=4000, help="training scenes, drawn and encoded once")
    parser.add_argument("--held-out", type=int, default=128, help="scenes to measure on")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=16, help="of an image; half of them are boxes")
    parser.add_argument("--heads", type=int, default=4, help="of the decoder's attention")
    parser.add_argument("--dim-feedforward", type=int, default=256, help="hidden width of the decoder")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
