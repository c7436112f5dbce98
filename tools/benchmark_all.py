"""All systems and ablations on the miniature world, over several seeds: one table, the papers' orders, one plot.

Trains every variant on vocabulary A with train_net.py, scores its ensembles on one pass over the report split of B with
sweep.py, and writes results.md and results.svg: PQ with 95 % intervals from resampled images and seeds, and for every
order that a paper states the paired difference with its interval. What is in the output folder already is not done
again, so that a run that was stopped goes on. Needs matplotlib.

Example:
    python tools/benchmark_all.py --seeds 1 2 3 4 5 --jobs 2 --output output/bench     # make bench
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmark_prompts import PROMPTED, prompted_configs, prompted_tables, run_all_prompted
from benchmark_runs import check_data, finished, parse_run_options, run_benchmark, run_folder, score, table, train

from possam.evaluation import ImageCounts
from possam.evaluation.bootstrap import Estimate, difference, intervals
from possam.evaluation.tables import format_interval, tenths
from possam.utils.files import write_atomically

DATASET = "mini_b_report"


class Variant(NamedTuple):
    """A training and its settings.

    settings: ensembles, as `--grid` of tools/sweep.py; the first is the variant's own.
    """

    config: str
    options: tuple[str, ...]
    settings: tuple[str, ...]


_ENSEMBLES = ("mase", "uniform", "geometric", "modulation", "clip", "ldp")
_COMPARED = {name: name for name in _ENSEMBLES[1:]} | {
    f"fixed λ = {weight}": f"mase alpha={weight} beta={weight}" for weight in (0.4, 0.6, 0.7)
}
"""Settings that MASE is compared with, by name."""
_CLIP, _CLIP_FILTERED = "clip void=False filter=cls", "clip void=False filter=cls_iou"
_QUERY, _QUERY_FILTERED = "ldp filter=cls", "ldp filter=cls_iou"
_MODULATED = "modulation filter=cls_iou"


def _possam(*options: str, config: str = "possam") -> Variant:
    return Variant(f"configs/mini/{config}.yaml", options, _ENSEMBLES)


VARIANTS: dict[str, Variant] = {
    "PosSAM": Variant("configs/mini/possam.yaml", (), ("mase", *_COMPARED.values())),
    "PosSAM, long": Variant("configs/mini/possam_long.yaml", (), ("mase", *_COMPARED.values())),
    "no FPN": _possam("MODEL.NECK.NAME", "resample"),
    "SAM's decoder": _possam("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "two_way"),
    "CLIP pooling": _possam("MODEL.EMBEDDING.NAME", "clip"),
    "query alone": _possam("MODEL.EMBEDDING.NAME", "query"),
    "LDP without SAM": _possam("MODEL.LDP.STREAMS", "['clip']"),
    "LDP without CLIP": _possam("MODEL.LDP.STREAMS", "['sam']"),
    "no IoU head": _possam("MODEL.MASK_FORMER.IOU_HEAD", "False"),
    "random SAM": _possam("MODEL.SAM.WEIGHTS", ""),
    "weak CLIP": _possam(config="possam_weak_clip"),
    "weak CLIP, CLIP pooling": _possam("MODEL.EMBEDDING.NAME", "clip", config="possam_weak_clip"),
    "FC-CLIP": Variant("configs/mini/fcclip.yaml", (), ("geometric", "uniform", "modulation", "mase", "clip", "ldp")),
    "OPSNet": Variant("configs/mini/opsnet.yaml", (), (_MODULATED, _QUERY_FILTERED, _CLIP_FILTERED)),
    "OPSNet without attention": Variant(
        "configs/mini/opsnet.yaml",
        ("MODEL.OPSNET.CROSS_ATTENTION", "False"),
        (_QUERY_FILTERED, _QUERY, _CLIP_FILTERED, _CLIP),
    ),
}

Side = tuple[str, str]
"""A variant and one of its settings."""


class Order(NamedTuple):
    """A paper's claim that one side is better than another."""

    claim: str
    better: Side
    worse: Side
    source: str


_WHOLE = ("PosSAM", "mase")
_PLAIN = "OPSNet without attention"
ORDERS = [
    *(
        Order(claim, _WHOLE, (variant, "mase"), "PosSAM")
        for claim, variant in (
            ("FPN over resampled features", "no FPN"),
            ("Mask2Former's decoder over SAM's", "SAM's decoder"),
            ("LDP over CLIP pooling", "CLIP pooling"),
            ("LDP over the query alone", "query alone"),
            ("both streams over CLIP's", "LDP without SAM"),
            ("both streams over SAM's", "LDP without CLIP"),
            ("IoU head over none", "no IoU head"),
        )
    ),
    Order("LDP over CLIP pooling, weak CLIP", ("weak CLIP", "mase"), ("weak CLIP, CLIP pooling", "mase"), "PosSAM"),
    *(
        Order(f"LDP over {name}, without MASE", (variant, "ldp"), (other, "ldp"), "PosSAM")
        for name, variant, other in (
            ("CLIP pooling", "PosSAM", "CLIP pooling"),
            ("the query alone", "PosSAM", "query alone"),
            ("CLIP pooling, weak CLIP", "weak CLIP", "weak CLIP, CLIP pooling"),
        )
    ),
    *(
        Order(f"MASE over {name}{budget}", (f"PosSAM{budget}", "mase"), (f"PosSAM{budget}", setting), "PosSAM")
        for budget in ("", ", long")
        for name, setting in _COMPARED.items()
    ),
    Order("PosSAM over FC-CLIP", _WHOLE, ("FC-CLIP", "geometric"), "PosSAM"),
    Order("mask filter, CLIP embeddings", (_PLAIN, _CLIP_FILTERED), (_PLAIN, _CLIP), "OPSNet, rows 3, 2"),
    Order("query over CLIP embeddings", (_PLAIN, _QUERY), (_PLAIN, _CLIP_FILTERED), "OPSNet, rows 4, 3"),
    Order("mask filter, query embeddings", (_PLAIN, _QUERY_FILTERED), (_PLAIN, _QUERY), "OPSNet, rows 5, 4"),
    Order("attention to CLIP", ("OPSNet", _QUERY_FILTERED), (_PLAIN, _QUERY_FILTERED), "OPSNet, rows 6, 5"),
    Order("modulation", ("OPSNet", _MODULATED), ("OPSNet", _QUERY_FILTERED), "OPSNet, rows 7, 6"),
]

METRICS = {"PQ": "PQ", "PQ_seen": "seen", "PQ_unseen": "unseen"}
Counts = Mapping[Side, Sequence[ImageCounts]]
"""Counts of each seed, by variant and setting."""


def run(variant: str, seed: int, output: Path) -> dict[str, ImageCounts]:
    """Counts by setting of one training, which is trained and scored first where the output folder does not have it."""
    config, options, settings = VARIANTS[variant]
    weights = train(config, options, seed, run_folder(output, variant, seed))
    score(weights, config, options, DATASET, settings, "scores")
    folder = weights.parent / "scores" / "evaluation" / DATASET / "panoptic_counts"
    return {setting: ImageCounts.load(folder / ImageCounts.file_name(setting)) for setting in settings}


def cell(estimate: Estimate) -> str:
    """A value and its interval as a cell of a table."""
    return f"{tenths(estimate.value)} {format_interval(estimate.low, estimate.high)}"


def whole_table(counts: Counts) -> str:
    """PQ of every variant's settings, and its difference to the whole system."""
    rows = []
    for side, runs in counts.items():
        found = intervals(*runs)
        gap = "" if side == _WHOLE else cell(difference(runs, counts[_WHOLE])["PQ"])
        rows.append([*side, *(cell(found[metric]) for metric in METRICS), gap])
    return table(f"PQ on {DATASET}", ["", "scores", *METRICS.values(), "difference to PosSAM, mase"], rows)


def verdict(estimate: Estimate) -> str:
    """Word for an order: yes or no where the interval does not include 0."""
    return "not decided" if estimate.includes_zero else "yes" if estimate.value > 0 else "no, reversed"


def orders_table(counts: Counts, orders: Sequence[Order]) -> str:
    """Differences of the orders' sides, with whether each order is confirmed here."""
    rows = []
    for order in orders:
        found = difference(counts[order.better], counts[order.worse])
        rows.append([order.claim, order.source, *(cell(found[metric]) for metric in METRICS), verdict(found["PQ"])])
    headers = ["", "paper", *(f"Δ {name}" for name in METRICS.values()), "confirmed here"]
    return table("The papers' orders", headers, rows)


def drawn_over(seeds: int) -> str:
    """The intervals of a number of seeds in words: of one, images alone are resampled."""
    return f"95 % interval over images{' and seeds' if seeds > 1 else ''}"


def draw(counts: Counts, path: Path) -> None:
    """PQ of every variant's own setting with its interval, of all and of unseen classes."""
    from matplotlib import pyplot

    variants = dict.fromkeys(variant for variant, _ in counts)
    own = {variant: counts[variant, VARIANTS[variant].settings[0]] for variant in variants}
    estimates = {variant: intervals(*runs) for variant, runs in own.items()}
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(estimates) + 1), layout="constrained")
    for (metric, name), (color, shift) in zip(
        (("PQ", "all classes"), ("PQ_unseen", "unseen classes")), (("#0072b2", -0.12), ("#d55e00", 0.12)), strict=True
    ):
        values = [estimate[metric] for estimate in estimates.values()]
        sides = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
        rows = [place + shift for place in range(len(values))]
        axes.errorbar([one.value for one in values], rows, xerr=sides, fmt="o", color=color, label=name)
    axes.set_yticks(range(len(estimates)), list(estimates))
    axes.invert_yaxis()
    axes.set_xlabel(f"PQ on {DATASET}, {drawn_over(len(own[_WHOLE[0]]))}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    write_atomically(path, partial(figure.savefig, format=path.suffix[1:], metadata={"Date": None}))
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME",
        help=f"some of {', '.join(map(repr, VARIANTS))}; 'PosSAM', which all are compared with, is always among them",
    )  # fmt: skip
    parser.add_argument("--no-prompts", action="store_true", help="leave out Open-Vocabulary SAM and its baselines")
    args = parse_run_options(parser, argv, output="output/bench", seeds=(1, 2, 3, 4, 5))
    if find_spec("matplotlib") is None:
        parser.error("the plot needs matplotlib, which is not installed: pip install matplotlib")
    output, seeds = args.output, args.seeds
    variants = list(dict.fromkeys([_WHOLE[0], *args.variants]))
    prompts = [] if args.no_prompts else list(PROMPTED)
    check_data([(VARIANTS[name].config, ["DATASETS.TEST", f"['{DATASET}']"]) for name in variants])
    check_data(prompted_configs(prompts))
    with ThreadPoolExecutor(args.jobs) as pool:
        pending = {(variant, seed): pool.submit(run, variant, seed, output) for variant in variants for seed in seeds}
        found = finished(pool, pending)
        prompted = run_all_prompted(pool, prompts, seeds, output / "prompts")
    counts = {
        (variant, setting): [found[variant, seed][setting] for seed in seeds]
        for variant in variants
        for setting in VARIANTS[variant].settings
    }
    orders = [order for order in ORDERS if {order.better, order.worse} <= counts.keys()]
    number = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    parts = [f"{number}, {drawn_over(len(seeds))}\n", whole_table(counts), orders_table(counts, orders)]
    if prompted:
        parts.append(prompted_tables(prompted))
    text = "\n".join(parts)
    write_atomically(output / "results.md", lambda file: file.write(text.encode()))
    draw(counts, output / "results.svg")
    print(text)


if __name__ == "__main__":
    run_benchmark(main)
