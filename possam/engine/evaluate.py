"""Evaluate a model on datasets, with several ensembles on the same forward passes, and record the settings."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import track

from possam.d2.config import CfgNode
from possam.d2.evaluation import inference_context
from possam.d2.utils import comm
from possam.encoders.state_dicts import not_finite
from possam.engine.prompted import check_detections, check_prompts
from possam.engine.provenance import provenance
from possam.evaluation import (
    LVIS_DETECTIONS,
    Evaluators,
    GroundTruth,
    ImageCounts,
    ap_library,
    bootstrap_results,
    build_evaluators,
    find_task,
    format_comparison,
    format_differences,
    format_table,
    outputs_of,
    scored_tasks,
)
from possam.models import OpenVocabularySegmenter, TestTimeAugmentation
from possam.utils.files import write_json
from possam.utils.output import guarded_output
from possam.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class Predictor(Protocol):
    """Interface of a model, or of its test-time augmentation, in an evaluation."""

    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[Any]:
        """Something for every image, from which `segment` makes a segmentation with any ensemble."""

    def segment(
        self, prediction: Any, ensemble: str | None = None, tasks: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """These of `possam.inference.OUTPUTS`, as `OpenVocabularySegmenter.segment` gives them."""


def build_predictor(cfg: CfgNode, model: OpenVocabularySegmenter) -> Predictor:
    """The model, or its test-time augmentation where `TEST.AUG` asks for it; `build_test_mapper` makes its images."""
    views = cfg.TEST.AUG
    return TestTimeAugmentation(model, scales=views.SCALES, flip=views.FLIP) if views.ENABLED else model


@guarded_output()
def evaluate_datasets(
    cfg: CfgNode, model: OpenVocabularySegmenter, loader_of: Callable[..., Any], *, predictor: Predictor | None = None
) -> OrderedDict[str, Any]:
    """Score a model on every dataset of `DATASETS.TEST`, each with its own names, whatever the order.

    Prints the tables; writes, beside what `evaluate` writes of each, OUTPUT_DIR/evaluation/results.json of them all.

    Args:
        loader_of: the test loader of a dataset, by its name. For tasks that need prompts, and for them alone, it is
            called with ``prompts=True``, and each of the loader's inputs must have the image's "prompts", of which
            there may be none.
        predictor: what predicts in the model's place, or None.

    Returns:
        Results by dataset, task and metric. Empty dicts but on the main process.

    Raises:
        ValueError: a dataset cannot be scored on any of `TEST.TASKS`, or the model takes no prompts and one of them
            needs prompts; said before the first of them is scored.
        FloatingPointError: parameters of the model are NaN or infinite.
    """
    check_prompts(cfg)
    for name in cfg.DATASETS.TEST:
        scored_tasks(GroundTruth(name), cfg.TEST.TASKS)
    check_detections(cfg)
    origin = provenance(cfg, model) if comm.is_main_process() else None
    reports = OrderedDict(
        (name, _evaluate(cfg, model, name, loader_of, predictor or model, origin)) for name in cfg.DATASETS.TEST
    )
    results = OrderedDict((name, report.get("results", {})) for name, report in reports.items())
    if comm.is_main_process() and reports:
        content = {
            name: {**report["results"], **report["intervals"], "dataset": report["dataset"]}
            for name, report in reports.items()
        }
        write_json(Path(cfg.OUTPUT_DIR) / "evaluation" / "results.json", {"datasets": content, "provenance": origin})
        if len(results) > 1:
            print(f"\n{format_comparison(results, title='dataset')}\n")
    return results


@guarded_output()
def evaluate(
    cfg: CfgNode,
    model: OpenVocabularySegmenter,
    dataset: str,
    loader_of: Callable[..., Any],
    *,
    predictor: Predictor | None = None,
) -> dict[str, Any]:
    """Score `model` on `dataset`: `MODEL.ENSEMBLE` on those of `TEST.TASKS` that the dataset has annotations for,
    `TEST.ENSEMBLES` on the first of these alone.

    Prints the tables; writes predictions, `results.json` and, for panoptic quality, the counts of each image
    (`ImageCounts`) under OUTPUT_DIR/evaluation/<dataset>.

    Args:
        loader_of, predictor: see `evaluate_datasets`.

    Returns:
        Metrics by task, and under "compare" those of the first task of every ensemble. Empty but on the main process.
    """
    origin = provenance(cfg, model) if comm.is_main_process() else None
    check_prompts(cfg)
    report = _evaluate(cfg, model, dataset, loader_of, predictor or model, origin)
    results: dict[str, Any] = report.get("results", {})
    return results


def _evaluate(
    cfg: CfgNode,
    model: OpenVocabularySegmenter,
    dataset: str,
    loader_of: Callable[..., Any],
    predictor: Predictor,
    origin: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """"results" (what `evaluate` returns), "intervals" (what results.json has of them) and "dataset" (what they are
    about); empty but on the main process."""
    if wrong := not_finite(model.state_dict()):
        raise FloatingPointError(f"{dataset} is not scored: parameters of the model are NaN or infinite: {wrong}.")
    folder = Path(cfg.OUTPUT_DIR) / "evaluation" / dataset
    ground_truth = GroundTruth(dataset)
    ensemble, scored = cfg.MODEL.ENSEMBLE.NAME, scored_tasks(ground_truth, cfg.TEST.TASKS)
    if "instance" in scored and ground_truth.federated and cfg.TEST.DETECTIONS_PER_IMAGE < LVIS_DETECTIONS:
        logger.warning(
            "%s is scored on the best %d instances of an image, but TEST.DETECTIONS_PER_IMAGE is %d; set it to %d.",
            *(dataset, LVIS_DETECTIONS, cfg.TEST.DETECTIONS_PER_IMAGE, LVIS_DETECTIONS),
        )
    tasks = {name: scored[:1] for name in cfg.TEST.ENSEMBLES} | {ensemble: scored}
    metrics, evaluators = _score(model, predictor, loader_of, ground_truth, tasks, {ensemble: folder})
    if not comm.is_main_process():
        return {}
    results = dict(metrics[ensemble])
    if len(metrics) > 1:
        results["compare"] = {name: metric[find_task(scored[0]).result] for name, metric in metrics.items()}
    images = max(len(evaluator.evaluators[0].image_ids) for evaluator in evaluators.values())
    about = _describe(ground_truth, scored, model.train_vocabulary, images)
    intervals = _intervals(evaluators, folder / "panoptic_counts")
    write_json(folder / "results.json", {**results, **intervals, "dataset": about, "provenance": origin})
    # After the file: what is printed may be lost.
    bootstrap = intervals.get("bootstrap", {})
    table = format_table(metrics[ensemble], intervals=bootstrap.get("intervals", {}).get(ensemble))
    print(f"\n{dataset}, {ensemble}\n\n{table}\n")
    if len(metrics) > 1 or not all(metric.percent for task in scored for metric in find_task(task).metrics):
        print(f"{format_comparison(metrics)}\n")
    if differences := format_differences(bootstrap):
        print(f"{differences}\n")
    logger.info("Results and predictions are in %s", folder)
    return {"results": results, "intervals": intervals, "dataset": about}


def _intervals(evaluators: Mapping[str, Evaluators], folder: Path) -> dict[str, Any]:
    """Write the panoptic counts of each image to a file an ensemble, and return "bootstrap" (`bootstrap_results`), or
    nothing where PQ was not scored or no image was."""
    counts: dict[str, ImageCounts] = {
        name: evaluator.image_counts
        for name, of in evaluators.items()
        for evaluator in of.evaluators
        if evaluator.image_counts is not None and evaluator.image_ids
    }
    for name, of_ensemble in counts.items():
        of_ensemble.save(folder / ImageCounts.file_name(name))
    return {"bootstrap": bootstrap_results(counts)} if counts else {}


def _score(
    model: OpenVocabularySegmenter,
    predictor: Predictor,
    loader_of: Callable[..., Any],
    ground_truth: GroundTruth,
    tasks: Mapping[str, tuple[str, ...]],
    folders: Mapping[str, Path],
) -> tuple[dict[str, dict[str, Any]], dict[str, Evaluators]]:
    """The metrics of every ensemble's tasks, empty but on the main process, and the evaluators that made them.

    A model takes prompts, or whole images: its tasks have the same inputs.

    Args:
        tasks: names of tasks by ensemble.
        folders: where to write predictions, by ensemble.
    """
    evaluators = {
        name: build_evaluators(
            ground_truth, tasks=of, train_vocabulary=model.train_vocabulary, output_dir=folders.get(name)
        )
        for name, of in tasks.items()
    }
    loader = loader_of(ground_truth.name, prompts=True) if model.takes_prompts else loader_of(ground_truth.name)
    _predict(model, predictor, loader, evaluators, {name: outputs_of(of) for name, of in tasks.items()})
    metrics = {name: evaluator.evaluate() or {} for name, evaluator in evaluators.items()}
    return metrics, evaluators


def _predict(
    model: OpenVocabularySegmenter,
    predictor: Predictor,
    loader: Any,
    evaluators: Mapping[str, Evaluators],
    wanted: Mapping[str, tuple[str, ...]],
) -> None:
    """Run the predictor over the loader once, and pass the outputs to every ensemble's evaluators."""
    for evaluator in evaluators.values():
        evaluator.reset()
    batches = track(loader, "Evaluating", transient=True, disable=not comm.is_main_process())
    with inference_context(model), torch.no_grad():
        for inputs in batches:
            asked = [sample for sample in inputs if "prompts" not in sample or len(sample["prompts"])]
            unasked = [sample for sample in inputs if "prompts" in sample and not len(sample["prompts"])]
            predictions = predictor.predict(asked) if asked else []
            for name, evaluator in evaluators.items():
                outputs = [predictor.segment(prediction, name, wanted[name]) for prediction in predictions]
                evaluator.process([*asked, *unasked], [*outputs, *({} for _ in unasked)])


def _describe(
    ground_truth: GroundTruth, tasks: tuple[str, ...], train_vocabulary: Vocabulary, images: int
) -> dict[str, Any]:
    """What a result is about, as plain data."""
    vocabulary = ground_truth.vocabulary
    overlap = vocabulary.overlap(train_vocabulary)
    seen = vocabulary.seen(train_vocabulary)
    unseen = [name for name, known in zip(vocabulary.display_names, seen, strict=True) if not known]
    return {
        "name": ground_truth.name,
        "images": images,
        "images_expected": len(ground_truth.records),
        "tasks": list(tasks),
        "vocabulary": {"name": vocabulary.name, "classes": len(vocabulary)},
        "train_vocabulary": {"name": train_vocabulary.name, "classes": len(train_vocabulary)},
        "seen": {
            "classes": len(vocabulary) - len(unseen),
            "unseen_classes": len(unseen),
            "overlap": None if overlap is None else f"{overlap.train}_to_{overlap.test}",
            "overlap_version": None if overlap is None else overlap.version,
        },
        "unseen": unseen,
        "average_precision_by": ap_library(federated=ground_truth.federated) if "instance" in tasks else None,
    }
