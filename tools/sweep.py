"""Score many constants of ensembles on the same forward passes, as arXiv:2303.11324 in Tables 4, 6 and 7.

Examples:
    python tools/sweep.py --config-file configs/mini/opsnet.yaml MODEL.WEIGHTS output/mini_opsnet/model_final.pth
    python tools/sweep.py --config-file configs/opsnet/r50.yaml --config-file configs/eval/ade20k.yaml \\
        --grid "modulation ratio=5,10,15 debias=0.25,0.5,0.75,1" MODEL.WEIGHTS output/opsnet/r50/model_final.pth
    python tools/sweep.py --config-file configs/mini/opsnet.yaml --grid ldp --grid clip --grid modulation \\
        --filter cls --filter iou --filter cls_iou MODEL.WEIGHTS output/mini_opsnet/model_final.pth

Without --grid: that paper's Table 6 (a of embedding fusion by b of logits debiasing; 0 leaves either out) and Table 4
(sums of both embeddings). A grid may also have filter=…, mask filters of its own, and void=False, which leaves out the
trained head's probability that a mask is nothing: --grid "clip void=True,False filter=cls,cls_iou". Constants that a
grid does not name are those of MODEL.ENSEMBLE; without --filter the scores go through TEST.MASK_FILTER. Results are in
OUTPUT_DIR/evaluation/<dataset>/results.json under "compare". Constants are to be chosen on another split than the one
that is reported.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import yaml
from tabulate import tabulate
from torch import Tensor

from possam.classifiers import ClassificationInputs, Ensemble, build_ensemble, ensemble_constants
from possam.d2.utils import setup_logger
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.evaluate import build_predictor, evaluate_datasets
from possam.engine.trainer import build_test_loader
from possam.inference import MASK_FILTERS
from possam.utils.output import run_command

PUBLISHED = (
    "modulation ratio=0,5,10,15 debias=0,0.25,0.5,0.75,1",
    "ldp",
    "clip",
    "embedding_sum ratio=1,2,3,4",
)


class Grid(NamedTuple):
    """An ensemble, and the values to try of its constants, and of `filter` and `void`."""

    ensemble: str
    values: dict[str, list[Any]]

    @classmethod
    def parse(cls, text: str) -> Grid:
        """Parse "NAME constant=value,value …". Raises ValueError for anything else."""
        name, *parts = text.split() or [""]
        values = {}
        for part in parts:
            constant, equals, listed = part.partition("=")
            if not (constant and equals and listed):
                raise ValueError(f"--grid {text!r}: {part!r} must be CONSTANT=VALUE,VALUE, such as ratio=5,10.")
            values[constant.lower()] = [yaml.safe_load(value) for value in listed.split(",")]
        return cls(name, values)

    def settings(self) -> dict[str, dict[str, Any]]:
        """Every combination of constants, by a label."""
        combinations = [dict(zip(self.values, each, strict=True)) for each in itertools.product(*self.values.values())]
        return {self.label(constants): constants for constants in combinations}

    def filters(self, common: Sequence[str]) -> Sequence[str]:
        """The filters for every setting: the common ones, unless the grid has its own."""
        return [""] if "filter" in self.values else common

    def label(self, constants: dict[str, Any]) -> str:
        return " ".join([self.ensemble, *(f"{key}={value}" for key, value in constants.items())])


class Filtered(Ensemble):
    """An ensemble whose scores go through a mask filter."""

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.ensemble, self.filter = ensemble.without_iou(), MASK_FILTERS[name]

    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        return self.filter(self.ensemble(inputs), inputs.iou)

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        return self.ensemble.explain(inputs)


class WithoutVoid(Ensemble):
    """An ensemble for which no mask is void: v = 0."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def without_iou(self) -> WithoutVoid:
        return WithoutVoid(self.ensemble.without_iou())

    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        logits = inputs.query_logits.clone()
        logits[:, -1] = -math.inf
        return self.ensemble(replace(inputs, query_logits=logits))

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        return self.ensemble.explain(inputs)


def _build(name: str, constants: dict[str, Any]) -> Ensemble:
    """An ensemble from its constants, perhaps among them `filter` and `void`."""
    own, void = constants.pop("filter", ""), constants.pop("void", True)
    if own and own not in MASK_FILTERS or not isinstance(void, bool):
        raise ValueError(
            f"{name} filter={own} void={void}: filter must be one of {', '.join(MASK_FILTERS)}, void True or False."
        )
    ensemble = build_ensemble(name, **constants)
    ensemble = ensemble if void else WithoutVoid(ensemble)
    return Filtered(ensemble, own) if own else ensemble


def build_ensembles(
    grids: Sequence[Grid], filters: Sequence[str], configured: Mapping[str, Mapping[str, Any]]
) -> dict[str, Ensemble]:
    """The ensembles of all grids by their labels, each with every filter; "" leaves the scores as they are, and so does
    any filter those of a grid with filters of its own.

    Args:
        configured: `MODEL.ENSEMBLE`, whose constants hold where a grid does not name them.

    Raises:
        ValueError: an ensemble or a constant is unknown, or a value is out of its range.
    """
    found: dict[str, Ensemble] = {}
    for grid in grids:
        others = ensemble_constants(configured, grid.ensemble)
        for label, constants in grid.settings().items():
            ensemble = _build(grid.ensemble, others | constants)
            for name in grid.filters(filters):
                found[f"{label} {name}".strip()] = Filtered(ensemble, name) if name else ensemble
    return found


def sweep(
    files: Sequence[str], overrides: Sequence[str], grids: Sequence[Grid], filters: Sequence[str]
) -> dict[str, Any]:
    """Evaluate a configuration's model with all ensembles of the grids, beside its own; those without a filter have the
    configured one.

    Returns:
        Metrics of the first task by dataset and label.

    Raises:
        ValueError: `MODEL.WEIGHTS` or `DATASETS.TEST` is empty, or what `load_config`, `build_ensembles` and the
            evaluation refuse.
    """
    cfg = load_config(files, overrides)
    ensembles = build_ensembles(grids, filters, cfg.MODEL.ENSEMBLE)
    for key, value in (("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS), ("DATASETS.TEST", cfg.DATASETS.TEST)):
        if not value:
            raise ValueError(f"{key} is empty; a sweep needs a trained model and a test set.")
    prepare_datasets(cfg)
    model = Trainer.build_model(cfg).eval()
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    ensembles[model.ensemble] = model.find_ensemble()
    for label, ensemble in ensembles.items():
        if model.mask_filter and not isinstance(ensemble, Filtered):
            ensembles[label] = Filtered(ensemble, model.mask_filter)
    model.mask_filter = ""  # each has its own
    model.ensembles |= ensembles
    cfg.TEST.ENSEMBLES = list(ensembles)
    loader = partial(build_test_loader, cfg)
    results = evaluate_datasets(cfg, model, loader, predictor=build_predictor(cfg, model))
    return {dataset: result["compare"] for dataset, result in results.items()}


def table(grid: Grid, filters: Sequence[str], metrics: dict[str, dict[str, float]]) -> str:
    """The first metric of a grid's settings: its last constant and the filters in columns, the others in rows."""
    filters, first = grid.filters(filters), next(iter(next(iter(metrics.values()))))
    *rows, last = [*grid.values.items()] or [("", [""])]
    columns = [(value, name) for value in last[1] for name in filters]
    body = []
    for chosen in itertools.product(*(values for _, values in rows)):
        constants = dict(zip((key for key, _ in rows), chosen, strict=True))
        labels = [grid.label(constants | ({last[0]: value} if last[0] else {})) for value, _ in columns]
        scores = [metrics[f"{label} {name}".strip()][first] for label, (_, name) in zip(labels, columns, strict=True)]
        body.append([" ".join(f"{key}={value}" for key, value in constants.items()), *scores])
    heads = [f"{last[0]}={value} {name}".strip(" =") for value, name in columns]
    return tabulate(body, headers=[f"{grid.ensemble}, {first}", *heads], floatfmt=".1f", tablefmt="github")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", action="append", required=True, metavar="FILE", help="may be repeated")
    parser.add_argument(
        "--grid", action="append", metavar="TEXT", help='"ENSEMBLE CONSTANT=VALUE,VALUE …"; may be repeated'
    )
    parser.add_argument(
        "--filter", action="append", choices=list(MASK_FILTERS), help="mask filter of every setting; may be repeated"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of settings")
    args = parser.parse_args(argv)
    setup_logger(name="possam")
    grids = [Grid.parse(text) for text in args.grid or PUBLISHED]
    filters = args.filter or [""]
    found = sweep(args.config_file, args.opts, grids, filters)
    for dataset, metrics in found.items():
        print(f"{dataset}\n")
        for grid in grids:
            print(f"{table(grid, filters, metrics)}\n")


if __name__ == "__main__":
    try:
        sys.exit(run_command(main))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
