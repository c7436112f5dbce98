"""Time and memory of one image through a configuration: a forward pass and a training step, with random weights.

Times are CPU seconds of the process on a CPU and wall seconds on a CUDA device; memory is the process's peak resident
set, or the device's peak allocation. Needs no data and no weights.

With --prompts it measures a system that takes prompts: an image encoded once, then clicks, one at a time.

With --flops it counts multiply-adds of convolutions and matrix products from an image to its masks and embeddings, by
class of module, of a system that takes prompts with one point; sampling, normalization and other elementwise operations
are not counted.

With --text it measures the text embeddings of a list of classes instead; the second time they come from the folder.

Examples:
    python tools/measure.py --config-file configs/coco/possam_vit_h.yaml MODEL.DEVICE cpu SOLVER.AMP.ENABLED False
    python tools/measure.py --config-file configs/ovsam/coco.yaml --prompts 10 MODEL.DEVICE cpu SOLVER.AMP.ENABLED False
    python tools/measure.py --config-file configs/opsnet/r50.yaml --flops MODEL.DEVICE cpu INPUT.IMAGE_SIZE 640
    python tools/measure.py --config-file configs/coco/possam_vit_b.yaml --text ade20k_847 --folder output/text \\
        MODEL.DEVICE cpu SOLVER.AMP.ENABLED False
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from possam.d2.config import CfgNode
from possam.d2.structures import Instances
from possam.d2.utils import EventStorage
from possam.encoders import FrozenCLIP
from possam.engine import Trainer, load_config, prepare_datasets
from possam.engine.trainer import build_step
from possam.layers.linear import HAS_ONEDNN
from possam.layers.prompts import Prompts
from possam.models import OpenVocabularySegmenter
from possam.predict.predictor import Predictor
from possam.utils.files import full_path
from possam.utils.output import run_command
from possam.vocabulary import TextBank, Vocabulary
from possam.vocabulary.templates import VILD_TEMPLATES


def without_weights(settings: CfgNode) -> CfgNode:
    """The settings with every `WEIGHTS` and `TEXT_CACHE` empty: parts are then initialized at random."""
    for key, value in settings.items():
        if isinstance(value, CfgNode):
            without_weights(value)
        elif key in {"WEIGHTS", "TEXT_CACHE"}:
            settings[key] = ""
    return settings


def sample(size: int, targets: int, vocabulary: Vocabulary) -> dict[str, Any]:
    """A random image of `size`×`size` pixels with `targets` square segments."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(targets, size, size, dtype=torch.bool)
    for mask in masks:
        top, left = (int(torch.randint(0, size // 2, (), generator=generator)) for _ in range(2))
        mask[top : top + size // 4, left : left + size // 4] = True
    instances = Instances((size, size))
    instances.gt_classes = torch.arange(targets) % len(vocabulary)
    instances.gt_masks = masks
    image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
    return {"image": image, "vocabulary": vocabulary, "instances": instances}


def measured(work: Callable[[], Any], device: torch.device) -> str:
    """Seconds `work` takes, and the peak memory up to its end."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return f"{seconds:.2f} s, {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the device"
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{seconds:.2f} CPU-s, {peak:.2f} GiB peak so far"


def measure_text(cfg: CfgNode, vocabulary: Vocabulary, folder: Path | None) -> None:
    """Print what the embeddings of `vocabulary` cost with the configuration's CLIP, of random weights."""
    clip = FrozenCLIP.build(name=cfg.MODEL.CLIP.NAME, weights=None).to(cfg.MODEL.DEVICE)
    bank = TextBank(encoder=clip, directory=folder)
    start = time.perf_counter()
    cost = measured(lambda: bank.embed(vocabulary), torch.device(cfg.MODEL.DEVICE))
    wall = time.perf_counter() - start
    prompts = len(vocabulary.names) * len(VILD_TEMPLATES)
    print(f"{len(vocabulary)} classes, {len(vocabulary.names)} names, {prompts} prompts: {cost}, {wall:.2f} s wall")


def _onednn_flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight[0]


def count_multiply_adds(model: OpenVocabularySegmenter, inputs: dict[str, Any]) -> dict[str, float]:
    """Multiply-adds in 10⁹ by the class of a module of the model, and of all under "total".

    Args:
        inputs: "image"; a model that takes prompts gets a point in its middle.
    """
    if model.takes_prompts:
        height, width = inputs["image"].shape[-2:]
        inputs = {**inputs, "prompts": Prompts(points=torch.tensor([[[width / 2, height / 2]]]))}
    counted: dict[Any, Any] = {}
    if HAS_ONEDNN:
        counted[torch.ops.mkldnn._linear_pointwise] = _onednn_flops
    model.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        model.propose([inputs])
    flops = {name: sum(of.values()) / 2e9 for name, of in counter.get_flop_counts().items() if "." not in name}
    return {**{name: of for name, of in flops.items() if name != "Global"}, "total": flops["Global"]}


def measure_prompts(model: OpenVocabularySegmenter, image: NDArray[np.uint8], count: int) -> None:
    """Print what it costs to encode an image, and to answer clicks in it one after the other.

    Args:
        image: H×W×3 uint8 RGB in [0, 255].
    """
    predictor = Predictor(model)
    print("encoding:", measured(lambda: predictor.set_image(image), model.device), flush=True)
    for number in range(1, count + 1):
        point = [number * side / (count + 1) for side in (image.shape[1], image.shape[0])]
        click = partial(predictor.prompt, points=[point])
        print(f"click {number}:", measured(click, model.device), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", action="append", required=True, metavar="FILE", help="may be repeated")
    parser.add_argument("--classes", type=int, default=10, help="size of the vocabulary; its text is not timed")
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=0, help="clicks in one image, of a system that takes prompts")
    parser.add_argument("--flops", action="store_true", help="count multiply-adds, instead of measuring time")
    parser.add_argument("--text", metavar="TABLE", help="a shipped list of classes, or a vocabulary's JSON file")
    parser.add_argument("--folder", type=full_path, help="where the text embeddings are kept")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    cfg = without_weights(load_config(args.config_file, args.opts))
    if args.text:
        measure_text(cfg, Vocabulary.load(args.text), args.folder)
        return
    prepare_datasets(cfg)
    model = Trainer.build_model(cfg)
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(args.classes)])
    model.train_vocabulary = vocabulary
    inputs = sample(cfg.INPUT.IMAGE_SIZE, args.targets, vocabulary)
    model.text_bank.embed(vocabulary)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6
    frozen = sum(parameter.numel() for parameter in model.parameters()) / 1e6 - trained
    print(f"{' + '.join(args.config_file)}: {trained:.1f} M trained, {frozen:.1f} M frozen parameters")
    if args.flops:
        for name, giga in count_multiply_adds(model.eval(), inputs).items():
            print(f"{name}: {giga:.1f} G multiply-adds")
        return
    if args.prompts:
        measure_prompts(model, inputs["image"].permute(1, 2, 0).numpy(), args.prompts)
        return

    training = build_step(cfg, model, itertools.repeat([inputs]), Trainer.build_optimizer(cfg, model))

    def step() -> None:
        with EventStorage():  # where it writes its losses
            training.run_step()

    for _ in range(args.repeat):
        model.eval()
        print("forward and merging:", measured(lambda: model([inputs]), model.device), flush=True)
        model.train()
        print("training step:", measured(step, model.device), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
