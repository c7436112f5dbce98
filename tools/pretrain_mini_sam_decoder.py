"""Pre-trains the prompt encoder and the mask decoder of the miniature world's SAM, and writes fp16 safetensors.

They are SAM's own, at the size of configs/mini/ovsam.yaml, over the shipped image encoder, whose features are computed
once. Classes and names play no part: points and boxes of segments of everything the world can draw are the input, their
masks the target, as SAM was trained. After the first steps a second round adds a point to every prompt where its mask
was wrong, on the segment or outside it, so that prompts of several points work, too. Most steps are on features pooled
to half their size, which costs a quarter. Keys of the file are those of SAM's checkpoints.

    python tools/pretrain_mini_sam_decoder.py --output possam/decoders/weights/mini_sam_decoder.safetensors

Shapes: B images, S = 128 the side of an image in pixels, N prompts, C channels of the features.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import torch
from pretrain_mini_sam import cosine_schedule, draw, prompt, run_training, save
from torch import Tensor, nn
from torch.nn import functional as F

from possam.data.miniature.world import SIZE
from possam.decoders import PromptedDecoder, PromptedMasks, PromptEncoder
from possam.encoders import FrozenSAM
from possam.inference import boxes_of_masks
from possam.utils.files import full_path
from possam.utils.output import run_command

_TRAIN, _HELD_OUT = 103, 104  # first seed of the scenes; no split of the data set uses them
_STRIDE = 8


class Given(NamedTuple):
    """N prompts of one kind: with boxes, or with points alone.

    points: N×P×2 (x, y) in pixels; labels: N×P, 1 on the segment, 0 outside; boxes: N×4 XYXY in pixels, or None.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor | None

    @property
    def ambiguous(self) -> bool:
        """Whether a prompt is a single point, which SAM answers by its candidates 1 to 3; else mask 0 is the answer."""
        return self.boxes is None and self.points.shape[1] == 1


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
        self._start_local()

    @torch.no_grad()
    def _start_local(self) -> None:
        """Let cross-attention begin with what is near: queries and keys are projected alike, so that their product is
        that of their positions, and embeddings without a position are small beside these."""
        transformer = self.mask_decoder.transformer
        attentions = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        for attention in attentions:
            attention.q_proj.weight *= 3
            attention.k_proj.weight.copy_(attention.q_proj.weight)
        for embedding in self.modules():
            if isinstance(embedding, nn.Embedding):
                embedding.weight *= 0.2

    def forward(self, features: Tensor, given: Given) -> PromptedMasks:
        """features N×C×h×w, those of the image of each prompt, which has S×S pixels whatever h and w are."""
        tokens = self.prompt_encoder(given.points, given.labels, given.boxes, (SIZE, SIZE))
        positions = self.prompt_encoder.positions((features.shape[-2], features.shape[-1]))
        decoded: PromptedMasks = self.mask_decoder(features + self.prompt_encoder.no_mask, positions, tokens)
        return decoded


def prompts_of(points: Tensor, masks: Tensor, *, boxes: bool) -> Given:
    """Prompts for masks N×S×S: points N×2 in [-1, 1] over the image, which are inside, or the tightest boxes."""
    labels = torch.ones(len(points), 1, dtype=torch.long)
    pixels = ((points + 1) / 2 * masks.shape[-1] - 0.5).round()[:, None]
    return Given(pixels[:, :0], labels[:, :0], boxes_of_masks(masks)) if boxes else Given(pixels, labels, None)


@torch.no_grad()
def answers(masks: PromptedMasks, given: Given, side: int, *, multimask: bool = True) -> Tensor:
    """The answer to each prompt at full resolution, N×S×S bool."""
    assert masks.iou is not None
    best = torch.zeros(len(masks.iou), dtype=torch.long)
    if multimask and given.ambiguous:
        best = 1 + masks.iou[:, 1:].argmax(1)
    logits = masks.mask_logits[torch.arange(len(best)), best]
    return F.interpolate(logits[None], size=(side, side), mode="bilinear", align_corners=False)[0] > 0


def correct(given: Given, found: Tensor, wanted: Tensor) -> Given:
    """Prompts with one more point each: a random pixel where the mask found is wrong, or else one of the segment."""
    wrong = found != wanted
    wrong |= wanted & ~wrong.flatten(1).any(1)[:, None, None]
    index = torch.multinomial(wrong.flatten(1).float(), 1)
    points = torch.cat([index % wanted.shape[-1], index // wanted.shape[-1]], dim=1).float()[:, None]
    labels = wanted.flatten(1).gather(1, index).long()
    return Given(torch.cat([given.points, points], 1), torch.cat([given.labels, labels], 1), given.boxes)


def loss_of(decoded: PromptedMasks, given: Given, wanted: Tensor) -> Tensor:
    """Cross-entropy, dice and the error of the estimated IoU against masks N×S×S bool, at the masks' own resolution.

    Of the candidates of an ambiguous prompt the best one is trained, and the estimates of all.
    """
    logits = decoded.mask_logits[:, 1:] if given.ambiguous else decoded.mask_logits[:, :1]
    assert decoded.iou is not None
    estimates = decoded.iou[:, 1:] if given.ambiguous else decoded.iou[:, :1]
    target = F.avg_pool2d(wanted.float()[:, None], wanted.shape[-1] // logits.shape[-1]).expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum((2, 3)) + 1
    dice = 1 - overlap / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    found, truth = logits > 0, target > 0.5
    quality = (found & truth).sum((2, 3)) / (found | truth).sum((2, 3)).clamp(min=1)
    return (4 * entropy + dice).amin(1).mean() + (estimates - quality).square().mean()


def batch_loss(
    model: Decoder, features: Tensor, ids: Tensor, prompts: int, generator: torch.Generator, *, rounds: int
) -> Tensor:
    """The loss of B images, features B×C×h×w and ids B×S×S; half of the prompts are points, half boxes."""
    points, masks = prompt(ids, prompts, generator)
    losses = []
    for boxes, half in ((False, slice(0, prompts // 2)), (True, slice(prompts // 2, prompts))):
        wanted, places = masks[:, half].flatten(0, 1), points[:, half].flatten(0, 1)
        maps = features.repeat_interleave(len(wanted) // len(ids), dim=0)
        given = prompts_of(places, wanted, boxes=boxes)
        for last in range(1, rounds + 1):
            decoded = model(maps, given)
            losses.append(loss_of(decoded, given, wanted))
            if last < rounds:
                given = correct(given, answers(decoded, given, wanted.shape[-1]), wanted)
    return torch.stack(losses).mean()


@torch.no_grad()
def held_out_ious(model: Decoder, features: Tensor, ids: Tensor) -> dict[str, float]:
    """Mean IoU in percent of 8 points and 8 boxes an image, and after one correcting point."""
    values: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for maps, own in zip(features.float().split(8), ids.split(8), strict=True):
        points, masks = (part.flatten(0, 1) for part in prompt(own, 8, generator))
        maps = maps.repeat_interleave(8, dim=0)
        for kind, boxes in (("point", False), ("box", True)):
            given = prompts_of(points, masks, boxes=boxes)
            decoded = model(maps, given)
            found = {kind: answers(decoded, given, own.shape[-1])}
            if not boxes:
                found["point, mask 0"] = answers(decoded, given, own.shape[-1], multimask=False)
            more = correct(given, found[kind], masks)
            found[f"{kind}, corrected"] = answers(model(maps, more), more, own.shape[-1])
            for name, answer in found.items():
                iou = (answer & masks).sum((1, 2)) / (answer | masks).sum((1, 2))
                values.setdefault(name, []).append(iou)
    return {name: 100 * float(torch.cat(ious).mean()) for name, ious in values.items()}


@torch.no_grad()
def encode(encoder: FrozenSAM, images: Tensor) -> Tensor:
    """B×3×S×S uint8 images to B×C×S/8×S/8 float16 features."""
    return torch.cat([encoder.final(part.float()).half() for part in images.split(64)])


def train(args: argparse.Namespace) -> None:
    """The whole training; every random number comes from `args.seed`."""
    torch.manual_seed(args.seed)
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
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = cosine_schedule(optimizer, steps=args.steps + args.fine_steps, warmup=50)
    for step in range(1, args.steps + args.fine_steps + 1):
        pick = torch.randint(len(features), (args.batch,), generator=generator)
        maps, rounds = features[pick].float(), 1 + (step > args.single_steps)
        if step <= args.steps:
            maps = F.avg_pool2d(maps, 2)
        loss = batch_loss(model, maps, ids[pick], args.prompts, generator, rounds=rounds)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - start:.0f} s", flush=True)
        if step % args.every == 0 or step == args.steps + args.fine_steps:
            save(model, args.output)
            ious = ", ".join(f"{name} {value:.1f}" for name, value in held_out_ious(model, held, held_ids).items())
            print(f"step {step} held-out mean IoU: {ious}; {time.process_time():.0f} CPU-s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=full_path, required=True, help="the safetensors file to write")
    parser.add_argument("--scenes", type=int, default=1600, help="training scenes, drawn and encoded once")
    parser.add_argument("--held-out", type=int, default=64, help="scenes to measure on")
    parser.add_argument("--steps", type=int, default=2400, help="on features pooled to half their size")
    parser.add_argument("--single-steps", type=int, default=800, help="without the second round")
    parser.add_argument("--fine-steps", type=int, default=1000, help="after them, on the features as they are")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=8, help="of an image; half of them are boxes")
    parser.add_argument("--heads", type=int, default=4, help="of the decoder's attention")
    parser.add_argument("--dim-feedforward", type=int, default=256, help="hidden width of the decoder")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=400, help="steps between checkpoints")
    run_training(parser, train)


if __name__ == "__main__":
    sys.exit(run_command(main))
