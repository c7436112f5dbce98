"""Pre-train a miniature CLIP on everything the miniature world can draw, and measure it on masks.

The recipe is CLIP's, pairs of a picture and a sentence, contrasted within a batch. Pictures are square crops around
random segments; sentences set one of the segment's names, synonyms included, into one of the templates. Two things
make a small budget enough:
- the tower's last mean is weighted by how much of each cell the segment covers, so that no name is blamed for what lies
  around a thing (a crop of the web has one subject and many pixels to spare, a crop of this world neither);
- as on the web, a sentence may name only a part ("a photo of a star", "a photo of a striped thing").

    python tools/pretrain_mini_clip.py --model strong      # about 20 minutes on one CPU core
    python tools/pretrain_mini_clip.py --model weak        # 6 minutes

Shapes: B examples, S side of a crop as the tower sees it, H_c×W_c cells, D width of CLIP's joint space, K classes.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from possam.data.miniature.lexicon import ATTRIBUTES, EVERYTHING, SHAPES, ThingKind, palette_of
from possam.data.miniature.world import Scene, Segment, draw_scene
from possam.encoders.clip import FrozenCLIP, mini
from possam.layers.mask_pooling import mask_pool
from possam.utils.files import full_path
from possam.utils.output import run_command
from possam.vocabulary import Vocabulary
from possam.vocabulary.templates import VILD_TEMPLATES, fill_template

logger = logging.getLogger("pretrain_mini_clip")

TRAIN_SPLIT, HELD_OUT_SPLIT = 201, 202  # first numbers of the scenes' seeds; no other part of the project uses them
SIDE = 96  # of a crop as the tower sees it
CELLS = SIDE // 16  # a side of its feature map
SCALES = (1.6, 2.46)  # tower pixels per scene pixel, around the input scale of the mini models
STUFF_SHARE = 0.35  # thirteen surfaces need fewer pictures than a hundred and twenty things


@dataclass(frozen=True)
class Recipe:
    """The weak CLIP differs in its size, its steps and its pictures; the learning is the same."""

    name: str
    steps: int
    crops: int
    batch: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup: int = 60


RECIPES = {
    "strong": Recipe(name="mini_strong", steps=3000, crops=60_000),
    "weak": Recipe(name="mini_weak", steps=1200, crops=30_000),
}


class Crops(NamedTuple):
    """`pixels` N×S×S×3 uint8 RGB, `masks` N×S×S uint8 0/1 of the segment, `kinds` N positions in EVERYTHING."""

    pixels: Tensor
    masks: Tensor
    kinds: Tensor


def draw_crops(number: int, *, seed: int) -> Crops:
    """Views of segments about as large as the tower sees them in a scene: things around their middle, surfaces around
    a random point of them."""
    pixels: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    kinds: list[int] = []
    index = 0
    while len(kinds) < number:
        rng = np.random.default_rng([TRAIN_SPLIT, seed, index])
        scene = draw_scene([TRAIN_SPLIT, seed, index], EVERYTHING)
        for segment in scene.segments:
            if segment.isthing or rng.random() < STUFF_SHARE:
                picture, mask = view(scene, segment, rng)
                pixels.append(picture)
                masks.append(mask)
                kinds.append(EVERYTHING.class_of[segment.kind])
        index += 1
    return Crops(
        torch.from_numpy(np.stack(pixels[:number])),
        torch.from_numpy(np.stack(masks[:number])),
        torch.tensor(kinds[:number]),
    )


def view(scene: Scene, segment: Segment, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random square view of a segment: SIDE×SIDE×3 uint8 RGB and SIDE×SIDE uint8 mask."""
    mask = scene.mask(segment).astype(np.uint8)
    if segment.isthing:
        x, y, width, height = segment.bbox
        middle = np.array([x + width / 2, y + height / 2])
    else:
        rows, columns = np.nonzero(mask)
        pick = rng.integers(len(rows))
        middle = np.array([columns[pick], rows[pick]]) + 0.5
    scale = float(rng.uniform(*SCALES))
    middle = middle + rng.uniform(-0.12, 0.12, 2) * SIDE / scale
    shift = SIDE / 2 - 0.5 - scale * (middle - 0.5)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    size = (SIDE, SIDE)
    picture = cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picture, cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def batches(crops: Crops, size: int, *, generator: torch.Generator) -> Iterator[Crops]:
    """Endless shuffled batches, mirrored at random; turned as well where all is about a thing."""
    is_thing = torch.tensor([kind.isthing for kind in EVERYTHING.kinds])[crops.kinds]
    while True:
        order = torch.randperm(len(crops.kinds), generator=generator)
        for chosen in order[: len(order) // size * size].split(size):
            pixels, masks = crops.pixels[chosen], crops.masks[chosen]
            turnable = is_thing[chosen]
            for axes, allowed in (((1,), turnable), ((2,), torch.ones_like(turnable)), ((), turnable)):
                flip = (torch.rand(size, generator=generator) < 0.5) & allowed
                for values in (pixels, masks):
                    part = values[flip]
                    values[flip] = part.flip(axes) if axes else part.transpose(1, 2)
            yield Crops(pixels, masks, crops.kinds[chosen])


def cell_weights(masks: Tensor) -> Tensor:
    """B×S×S uint8 masks → B×H_c×W_c weights, each summing to 1: the share of every cell that its segment covers."""
    share = F.adaptive_avg_pool2d(masks[:, None].float(), CELLS)[:, 0] + 1e-4
    return share / share.sum(dim=(1, 2), keepdim=True)


def captions(kinds: Tensor, *, says: str, rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """A sentence for each picture, and a number for what it means: equal numbers, equal meanings.

    As on the web, a sentence may leave something out: `says` is "all" ("striped star"), "shape" ("star") or
    "attribute" ("striped thing"). Half-sentences teach each half of a name much sooner than whole ones alone.
    """
    sentences, meanings = [], []
    for number in kinds.tolist():
        kind = EVERYTHING.kinds[number]
        if not isinstance(kind, ThingKind) or says == "all":
            choices, meaning = kind.names, number
        elif says == "shape":
            choices, meaning = SHAPES[kind.shape], -1 - list(SHAPES).index(kind.shape)
        else:
            choices = tuple(f"{word} {noun}" for word in ATTRIBUTES[kind.attribute] for noun in ("thing", "object"))
            meaning = -100 - list(ATTRIBUTES).index(kind.attribute)
        template = VILD_TEMPLATES[rng.integers(len(VILD_TEMPLATES))]
        sentences.append(fill_template(template, choices[rng.integers(len(choices))]))
        meanings.append(meaning)
    return sentences, torch.tensor(meanings)


def embed_images(model: open_clip.CLIP, pixels: Tensor, weights: Tensor) -> Tensor:
    """B×S×S×3 uint8 RGB and B×H_c×W_c weights → B×D: the tower with its mean pool weighted."""
    images = (pixels.permute(0, 3, 1, 2) / 255 - mini.PIXEL_MEAN[0]) / mini.PIXEL_STD[0]
    features = model.visual.trunk.forward_features(images)
    pooled = torch.einsum("bchw,bhw->bc", features.float(), weights)
    return model.visual.head(model.visual.trunk.forward_head(pooled[:, :, None, None]))


def embed_sentences(model: open_clip.CLIP, sentences: list[str], meanings: Tensor) -> Tensor:
    """B×D: every picture gets the first sentence of the batch that has its meaning, and each is encoded once."""
    unique, inverse = torch.unique(meanings, return_inverse=True)
    first = [int((inverse == meaning).nonzero()[0]) for meaning in range(len(unique))]
    tokens = mini.WordTokenizer()([sentences[index] for index in first])
    return model.encode_text(tokens)[inverse]


def contrastive_loss(images: Tensor, texts: Tensor, meanings: Tensor, scale: Tensor) -> Tensor:
    """Symmetric image-text contrast in which every pair of the same meaning is a positive.

    With 133 kinds a batch repeats some; calling the repeats negatives would teach that a thing is not itself.
    """
    logits = scale * F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
    same = (meanings[:, None] == meanings[None]).float()
    targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def optimizer_of(model: open_clip.CLIP, recipe: Recipe) -> tuple[torch.optim.Optimizer, LRScheduler]:
    # Text learns at a fraction of the images' rate: a transformer has no batch norm to bear it.
    groups = []
    for visual, wide in itertools.product((True, False), repeat=2):
        named = ((name.startswith("visual."), p.ndim >= 2, p) for name, p in model.named_parameters())
        groups.append(
            {
                "params": [p for is_visual, is_wide, p in named if (is_visual, is_wide) == (visual, wide)],
                "lr": recipe.learning_rate * (1.0 if visual else 0.3),
                "weight_decay": recipe.weight_decay if wide else 0.0,
            }
        )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    schedule = LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)),
    )
    return optimizer, schedule


def train(recipe: Recipe, *, seed: int, log_every: int) -> open_clip.CLIP:
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    started = time.process_time()
    stream = batches(draw_crops(recipe.crops, seed=seed), recipe.batch, generator=generator)
    logger.info("%d crops after %.0f CPU-seconds", recipe.crops, time.process_time() - started)
    model = mini.create_model(recipe.name)
    optimizer, schedule = optimizer_of(model, recipe)
    total = 0.0
    for step in range(1, recipe.steps + 1):
        batch = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            images = embed_images(model, batch.pixels, cell_weights(batch.masks))
        loss = torch.zeros(())
        for says in ("all", "shape", "attribute"):
            sentences, meanings = captions(batch.kinds, says=says, rng=rng)
            with torch.autocast("cpu", torch.bfloat16):
                texts = embed_sentences(model, sentences, meanings)
            loss = loss + contrastive_loss(images, texts, meanings, model.logit_scale.exp()) / 3
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        total += float(loss.detach())
        if step % log_every == 0:
            seconds = time.process_time() - started
            scale = float(model.logit_scale.detach().exp())
            logger.info("step %d loss %.3f scale %.1f %.0f CPU-seconds", step, total / log_every, scale, seconds)
            total = 0.0
            report(model, recipe.name, scenes=40)
    return model


def class_texts(clip: FrozenCLIP, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Text embeddings of all names (METHOD.md 1.7), N×D, and the class of each, N."""
    prompts = [fill_template(template, name) for name in vocabulary.names for template in VILD_TEMPLATES]
    embedded = clip.encode_text(prompts).view(len(vocabulary.names), len(VILD_TEMPLATES), -1)
    return F.normalize(embedded.mean(dim=1), dim=-1), torch.tensor(vocabulary.name_class)


def mask_accuracy(clip: FrozenCLIP, vocabulary: Vocabulary, *, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Classify ground-truth masks of held-out scenes by their pooled features.

    Returns:
        correct and all masks of each class, both of length K.
    """
    palette = palette_of(vocabulary.display_names)
    texts, name_class = class_texts(clip, vocabulary)
    correct, count = np.zeros(len(vocabulary), int), np.zeros(len(vocabulary), int)
    for index in range(scenes):
        scene = draw_scene([HELD_OUT_SPLIT, index], palette)
        dense = clip.final(torch.from_numpy(scene.image).permute(2, 0, 1)[None].float())
        masks = torch.from_numpy(np.stack([scene.mask(segment) for segment in scene.segments]))
        pooled, empty = mask_pool(dense, masks[None].float() * 2 - 1)
        best = name_class[(clip.project(pooled[0]) @ texts.T).argmax(dim=1)]
        for segment, guess, nothing in zip(scene.segments, best.tolist(), empty[0].tolist(), strict=True):
            label = palette.class_of[segment.kind]
            count[label] += 1
            correct[label] += guess == label and not nothing
    return correct, count


def report(model: open_clip.CLIP, name: str, *, scenes: int) -> None:
    """Log the accuracy on masks of vocabularies A and B, B's seen and unseen classes apart."""
    clip = FrozenCLIP(
        model=copy.deepcopy(model),
        tokenizer=mini.WordTokenizer(),
        pixel_mean=mini.PIXEL_MEAN,
        pixel_std=mini.PIXEL_STD,
        input_scale=mini.MODELS[name].input_scale,
    )
    train_vocabulary, test_vocabulary = Vocabulary.load("mini_a"), Vocabulary.load("mini_b")
    correct_a, count_a = mask_accuracy(clip, train_vocabulary, scenes=scenes)
    correct, count = mask_accuracy(clip, test_vocabulary, scenes=scenes)
    seen, things = np.array(test_vocabulary.seen(train_vocabulary)), np.array(test_vocabulary.isthing)
    parts = {"B": seen | ~seen, "B seen": seen, "B unseen": ~seen, "B things": things, "B stuff": ~things}
    shares = {part: correct[chosen].sum() / max(1, count[chosen].sum()) for part, chosen in parts.items()}
    logger.info(
        "mask accuracy on %d scenes: A %.1f%%, %s",
        scenes,
        100 * correct_a.sum() / count_a.sum(),
        ", ".join(f"{k} {100 * v:.1f}%" for k, v in shares.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(RECIPES), required=True)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=200)
    parser.add_argument("--report-scenes", type=int, default=400)
    parser.add_argument("--out", type=full_path, help="safetensors file; the shipped one unless given")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    cv2.setNumThreads(1)
    recipe = RECIPES[arguments.model]
    changes = {key: getattr(arguments, key) for key in ("steps", "batch") if getattr(arguments, key) is not None}
    recipe = replace(recipe, **changes)
    model = train(recipe, seed=arguments.seed, log_every=arguments.log_every)
    out = arguments.out or mini.MODELS[recipe.name].weights
    out.parent.mkdir(parents=True, exist_ok=True)
    half = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(half, out)
    model.load_state_dict({key: value.float() for key, value in half.items()})
    logger.info("wrote %s (%d kB)", out, out.stat().st_size // 1000)
    report(model, recipe.name, scenes=arguments.report_scenes)


if __name__ == "__main__":
    sys.exit(run_command(main))
