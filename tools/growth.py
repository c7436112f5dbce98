"""How time and memory of one image grow with its side, the number of queries and the number of classes, as a plot.

The default system with SAM ViT-B and CLIP convnext_large_d_320, random weights, one thread; every point in a process
of its own. The side is that of the whole inference; queries and classes are varied behind the frozen encoders, whose
time and memory do not depend on them. Needs matplotlib.

Examples:
    python tools/growth.py --output output/growth.json --plot docs/pictures/growth.svg
    python tools/growth.py --output output/names.json --axes classes --values 21000
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import torch
from benchmarks.measure import apart, peak_bytes, seconds
from torch.nn.functional import normalize

from possam.engine import Trainer, load_config, prepare_datasets
from possam.models import OpenVocabularySegmenter
from possam.utils.files import full_path, read_json, write_json
from possam.utils.output import run_command
from possam.vocabulary import ClassEmbeddings, Vocabulary

CONFIG = "configs/coco/possam_vit_b.yaml"
USUAL = {"side": 1024, "queries": 250, "classes": 133}
AXES = {
    "side": (512, 768, 1024, 1280),
    "queries": (50, 100, 250, 500),
    "classes": (19, 133, 847, 1203),
}
LABELS = {
    "side": "image side in pixels (whole inference)",
    "queries": "queries (behind the encoders)",
    "classes": "classes (behind the encoders)",
}
STYLE = {"seconds": ("CPU seconds", "#4269d0"), "peak_gib": ("peak memory, GiB", "#efb118")}


class RandomText:
    """Stands for the text bank: random unit vectors, since what text costs is measured elsewhere."""

    def __init__(self, width: int) -> None:
        self.width = width

    def embed(self, vocabulary: Vocabulary) -> ClassEmbeddings:
        generator = torch.Generator().manual_seed(0)
        rows = normalize(torch.randn(len(vocabulary.names), self.width, generator=generator), dim=-1)
        index = torch.tensor(vocabulary.name_class)
        return ClassEmbeddings(embeddings=rows, class_index=index, num_classes=len(vocabulary))


def point(axis: str, value: int) -> dict[str, Any]:
    """Time and memory with one size changed and the others as usual."""
    sizes = USUAL | {axis: value}
    settings: dict[str, object] = {
        "MODEL.SAM.WEIGHTS": "",
        "MODEL.CLIP.WEIGHTS": "",
        "MODEL.TEXT_CACHE": "",
        "MODEL.DEVICE": "cpu",
        "SOLVER.AMP.ENABLED": False,
        "INPUT.IMAGE_SIZE": sizes["side"],
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": sizes["queries"],
    }
    cfg = load_config(CONFIG, [str(part) for pair in settings.items() for part in pair])
    prepare_datasets(cfg)
    model: OpenVocabularySegmenter = Trainer.build_model(cfg).eval()
    model.text_bank = RandomText(model.clip.embed_dim)  # type: ignore[assignment]
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(sizes["classes"])])
    model.train_vocabulary = vocabulary
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, sizes["side"], sizes["side"]), generator=generator, dtype=torch.uint8)
    inputs: dict[str, Any] = {"image": image, "vocabulary": vocabulary}
    if axis != "side":
        inputs["features"] = {
            role: {stride: batch[0] for stride, batch in maps.items()} for role, maps in model.encode([image]).items()
        }
    work = partial(model, [inputs])
    peak = peak_bytes(work, "cpu")
    return {axis: value, "seconds": seconds(work, "cpu"), "peak_gib": peak / 2**30}


def draw(growth: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel an axis: CPU seconds on the left scale, peak memory on the right."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(growth), figsize=(13, 3.6), layout="constrained")
    for panel, (axis, points) in zip(panels, growth.items(), strict=True):
        panel.set_xlabel(LABELS[axis])
        panel.spines["top"].set_visible(False)
        for key, scale in zip(STYLE, (panel, panel.twinx()), strict=True):
            label, color = STYLE[key]
            values = [one[axis] for one in points]
            scale.plot(values, [one[key] for one in points], "o-", color=color, label=label)
            scale.set_ylim(bottom=0)
            scale.set_xticks(values)
            scale.set_ylabel(label, color=color)
            scale.tick_params(axis="y", colors=color)
            scale.spines["top"].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=full_path, required=True, help="JSON file of the figures")
    parser.add_argument("--plot", type=full_path, help="SVG or PNG file to draw them into")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--values", nargs="+", type=int, help="sizes instead of the usual ones, of a single axis")
    parser.add_argument("--draw-only", action="store_true", help="draw what --output holds already")
    args = parser.parse_args()
    if args.values and len(args.axes) != 1:
        parser.error("--values are of one axis; name it with --axes.")
    growth: dict[str, list[dict[str, Any]]] = read_json(args.output) if args.draw_only else {}
    for axis in () if args.draw_only else args.axes:
        growth[axis] = []
        for value in args.values or AXES[axis]:
            growth[axis].append(apart(point, axis, value))
            print(growth[axis][-1], flush=True)
            write_json(args.output, growth)
    if args.plot:
        draw(growth, args.plot)


if __name__ == "__main__":
    sys.exit(run_command(main))
