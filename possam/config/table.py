"""The table of all settings: those that every system has, and beside them each system's own.

A system's rows stand in its own file (`register_model(keys=…)`). What has no row is not read by this project.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch

from possam.classifiers.ensembles import ENSEMBLE_REGISTRY
from possam.config.key import (
    DETECTRON2,
    Check,
    Choice,
    Key,
    ListOf,
    count,
    fraction,
    name,
    not_negative,
    positive,
    seed,
    text,
)
from possam.d2.config import CfgNode, get_cfg
from possam.inference import MASK_FILTERS, SEMANTIC

__all__ = ["PRECISIONS", "default_config", "ensemble_constants", "keys_of", "owners", "register_keys", "systems"]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""`SOLVER.AMP.PRECISION`."""

_SYSTEMS: dict[str, tuple[Key, ...]] = {}
_SHORTEST = (("INPUT.RESIZE_TEST", "shortest_edge"),)
_PROMPTED = (("TEST.TASKS", "prompted"),)
_DETECTOR = (("TEST.PROMPTED.KIND", "detector"),)
_STEP = Check("a whole number above 0", lambda value: type(value) is int and value > 0)
_SCALE = Check("a number above 0", lambda value: type(value) in (int, float) and 0 < value < math.inf)
_WEIGHTS = Check(
    "a list of numbers above 0",
    lambda value: all(type(weight) in (int, float) and 0 < weight < math.inf for weight in value),
)
_SQUARE = Check(
    "a multiple of 32, the largest stride", lambda value, padded: not padded or value % 32 == 0, "INPUT.PAD_TO_SQUARE"
)
_LARGEST = Check(
    "at least INPUT.MIN_SIZE_TEST, {}", lambda value, least: value >= least, "INPUT.MIN_SIZE_TEST", where_read=True
)
_END = Check("at most SOLVER.BASE_LR, {}", lambda value, start: value <= start, "SOLVER.BASE_LR", where_read=True)
_JITTER = (("INPUT.AUGMENTATION", "lsj"),)
_SCALES = Check(
    "at most INPUT.MAX_SCALE, {}", lambda value, most: value <= most, "INPUT.MAX_SCALE", where_read=True
)
_NO_RESULTS = Check("empty, since this project compares no results; read results.json", lambda value: not len(value))

_COMMON = (
    Key("OUTPUT_DIR", check=text("a folder for checkpoints, logs and results"), machine=True, path=True,
        help="folder of checkpoints, logs and results"),
    Key("SEED", check=seed, resume="fixed", help="of model, order and augmentation; negative: a new one every run"),
    Key("CUDNN_BENCHMARK", help="let cuDNN choose its fastest algorithms by trying"),
    Key("FLOAT32_PRECISION", "", Choice(["", "highest", "high", "medium"]), resume="effective",
        help="of float32 matrix products (torch.set_float32_matmul_precision); empty: torch's own"),
    # Model.
    Key("MODEL.META_ARCHITECTURE", "PosSAM", Choice(_SYSTEMS), resume="fixed", help="the system"),
    Key("MODEL.DEVICE", help="cpu, cuda, cuda:0 …"),
    Key("MODEL.WEIGHTS", machine=True, path=True, help="checkpoint that a training starts from or a test evaluates"),
    Key("MODEL.COMPILE", False, help="run encoders and decoders through torch.compile"),
    Key("MODEL.TRAIN_VOCABULARY", "", machine=True, path=True,
        help="classes of the training: a table or JSON file; empty: those of the first training dataset"),
    Key("MODEL.TEXT_CACHE", "output/text", machine=True, path=True,
        help="folder of text embeddings; empty: none are kept"),
    Key("MODEL.ENSEMBLE.NAME", "mase", Choice(lambda: list(ENSEMBLE_REGISTRY)),
        help="what makes scores of in- and out-of-vocabulary logits"),
    Key("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.1, fraction,
        help="panoptic: least score of the best class of a mask that competes for pixels"),
    Key("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.8, fraction,
        help="panoptic: least fraction of its area that a mask has to win to be kept"),
    # Input.
    Key("INPUT.FORMAT", "RGB", Choice(["RGB"]), resume="effective", help="order of an image's channels"),
    Key("INPUT.IMAGE_SIZE", 1024, (count, _SQUARE), resume="effective",
        help="pixels: side of the training crop, and of an image's longer side at test time"),
    Key("INPUT.PAD_TO_SQUARE", True, resume="effective",
        help="pad to IMAGE_SIZE x IMAGE_SIZE, as SAM was trained; else to multiples of 32"),
    Key("INPUT.RESIZE_TEST", "longest_edge", Choice(["longest_edge", "shortest_edge"]),
        help="which side of an image has a given size at test time"),
    Key("INPUT.MIN_SIZE_TEST", check=count, only_if=_SHORTEST, help="pixels of the shorter side at test time"),
    Key("INPUT.MAX_SIZE_TEST", check=(count, _LARGEST), only_if=_SHORTEST,
        help="most pixels of the longer side at test time; the shorter one is less where it would exceed them"),
    Key("INPUT.AUGMENTATION", "lsj", resume="effective",
        help="of training images: lsj (large-scale jittering), flip (mirroring) or resize (none)"),
    Key("INPUT.MIN_SCALE", 0.1, (positive, _SCALES), resume="effective", only_if=_JITTER,
        help="of large-scale jittering: least size of the image, as a factor of IMAGE_SIZE"),
    Key("INPUT.MAX_SCALE", 2.0, positive, resume="effective", only_if=_JITTER, help="the same: largest size"),
    Key("INPUT.CACHE_FEATURES", False, resume="effective",
        help="compute the frozen features of the training set once, before training"),
    Key("INPUT.FEATURE_CACHE_DIR", "output/features", text("a folder for features of frozen encoders"), machine=True,
        path=True, help="folder where cached features are kept for the next run"),
    # Data.
    Key("DATASETS.TRAIN", check=ListOf(name), resume="fixed", help="training datasets"),
    Key("DATASETS.TRAIN_WEIGHTS", [], _WEIGHTS, resume="fixed",
        help="how often an image of each is drawn; empty: all images equally often"),
    Key("DATASETS.TEST", check=ListOf(name), help="test sets"),
    Key("DATASETS.PANOPTIC", [], machine=True,
        help="one's own: mappings of name, image_root, panoptic_root, panoptic_json, vocabulary"),
    Key("DATASETS.SEMANTIC", [], machine=True,
        help="one's own with label maps: mappings of name, image_root, label_root, vocabulary"),
    Key("DATASETS.UNNAMED", [], machine=True,
        help="one's own of masks without names, as SA-1B: mappings of name, image_root, vocabulary"),
    Key("DATASETS.IMAGE_LABELS", [], machine=True,
        help="one's own with class labels and no masks: mappings of name, image_root, labels, vocabulary"),
    Key("DATASETS.CLASS_NAMES", "", machine=True, path=True,
        help="class names of the package's datasets: empty (its tables), a published list, or a folder"),
    Key("DATASETS.CHECK", "full", Choice(["full", "sizes", "none"]), machine=True,
        help="at the start: sizes and ids of all files, sizes only, or nothing"),
    Key("DATALOADER.NUM_WORKERS", check=not_negative, help="processes that read images"),
    Key("DATALOADER.ASPECT_RATIO_GROUPING", resume="fixed", help="batches of wide images or of high ones"),
    Key("DATALOADER.MAX_UNREADABLE", 0.01, fraction, help="most unreadable images, as a fraction of those drawn"),
    # Training.
    Key("SOLVER.MAX_ITER", check=count, resume="effective", help="steps"),
    Key("SOLVER.IMS_PER_BATCH", check=count, resume="effective", help="images of a step, over all processes"),
    Key("SOLVER.GRAD_ACCUM_STEPS", 1, count, resume="effective",
        help="forward passes that the images of a step are shared out among"),
    Key("SOLVER.BASE_LR", check=positive, resume="effective", help="learning rate"),
    Key("SOLVER.BASE_LR_END", check=(not_negative, _END), resume="effective",
        only_if=(("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),), help="learning rate at the end"),
    Key("SOLVER.LR_SCHEDULER_NAME", resume="effective", help="how the learning rate falls",
        check=Choice(["WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"])),
    Key("SOLVER.STEPS", check=ListOf(_STEP), resume="effective", help="steps after which the rate falls by GAMMA"),
    Key("SOLVER.GAMMA", check=Check("above 0 and at most 1", lambda value: 0 < value <= 1), resume="effective",
        help="factor of the learning rate at a step of the schedule"),
    Key("SOLVER.NUM_DECAYS", check=count, resume="effective", help="how often the rate falls by GAMMA",
        only_if=(("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR"),)),
    Key("SOLVER.RESCALE_INTERVAL", resume="effective", help="whether the schedule's steps begin after the warm-up"),
    Key("SOLVER.WARMUP_FACTOR", check=fraction, resume="effective", help="of the learning rate at the start"),
    Key("SOLVER.WARMUP_ITERS", check=not_negative, resume="effective", help="steps until the learning rate is reached"),
    Key("SOLVER.WARMUP_METHOD", check=Choice(["linear", "constant"]), resume="effective",
        help="how the learning rate rises"),
    Key("SOLVER.WEIGHT_DECAY", check=not_negative, resume="effective", help="of AdamW"),
    Key("SOLVER.WEIGHT_DECAY_NORM", check=not_negative, resume="effective", help="the same of norms"),
    Key("SOLVER.WEIGHT_DECAY_EMBED", 0.0, not_negative, resume="effective", help="the same of embeddings"),
    Key("SOLVER.OPTIMIZER_EPS", 1e-8, positive, resume="effective", help="of AdamW"),
    Key("SOLVER.CLIP_GRADIENTS.ENABLED", resume="effective", help="whether gradients are clipped"),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", Choice(["full_model"]), resume="effective",
        help="by the norm of all gradients together"),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", check=positive, resume="effective", help="largest norm"),
    Key("SOLVER.AMP.ENABLED", resume="effective", help="mixed precision, on CUDA"),
    Key("SOLVER.AMP.PRECISION", "bf16", Choice(PRECISIONS), resume="effective", help="lower type of mixed precision"),
    Key("SOLVER.NON_FINITE", "stop", Choice(["stop", "skip"]), resume="effective",
        help="at NaN or infinity in losses or gradients: stop, or skip the step"),
    Key("SOLVER.CHECKPOINT_PERIOD", check=count, help="steps between checkpoints"),
    Key("SOLVER.MAX_TO_KEEP", 0, not_negative, help="periodic checkpoints that are kept, the newest ones; 0: all"),
    Key("LOG.PERIOD", 20, count, help="steps between two lines of the log"),
    Key("LOG.WANDB_PROJECT", "", help="project of Weights & Biases; empty: none"),
    # Evaluation.
    Key("TEST.EVAL_PERIOD", check=not_negative, help="steps between evaluations; 0: at the end only"),
    Key("TEST.EXPECTED_RESULTS", check=_NO_RESULTS, help="results that Detectron2 would compare"),
    Key("TEST.TASKS", ["panoptic", "semantic", "instance"], ListOf(name), help="what is predicted and scored"),
    Key("TEST.ENSEMBLES", [], ListOf(Choice(lambda: list(ENSEMBLE_REGISTRY))),
        help="ensembles scored beside MODEL.ENSEMBLE.NAME, on the same forward passes"),
    Key("TEST.MASK_FILTER", "", Choice(["", *MASK_FILTERS]),
        help="what ranks and drops masks: class score, IoU, or both; empty: the ensemble's scores with its own ETA"),
    Key("TEST.VOID_COMPETES", False, help="panoptic: drop a mask where void is more probable than its best class"),
    Key("TEST.SEMANTIC_RESIZE", "masks", Choice(SEMANTIC), help="what is resized to the output: masks, or class sums"),
    Key("TEST.DETECTIONS_PER_IMAGE", check=count, help="instances of an image, the best ones"),
    Key("TEST.BATCH_SIZE", 1, count, help="images of a forward pass"),
    Key("TEST.NUM_VISUALIZATIONS", 0, not_negative, help="images drawn of each kind of case after the evaluation"),
    Key("TEST.PROMPTED.KIND", "point", Choice(["point", "box", "detector"]), only_if=_PROMPTED,
        help="what prompts: a point or the box of every annotated instance, or a detector's boxes"),
    Key("TEST.PROMPTED.DETECTIONS", "", machine=True, path=True, only_if=_DETECTOR,
        help="the detector's results on the test set, in COCO's format"),
    Key("TEST.PROMPTED.LABELS", "detector", Choice(["detector", "model"]), only_if=_DETECTOR,
        help="who names the detector's boxes"),
    Key("TEST.PROMPTED.GROUND_TRUTH_REGIONS", False, only_if=_PROMPTED,
        help="give frozen CLIP the annotated boxes, as the published evaluation of OVSAM does"),
    Key("TEST.AUG.ENABLED", False, help="test-time augmentation: every image at every scale, and mirrored"),
    Key("TEST.AUG.FLIP", True, only_if=(("TEST.AUG.ENABLED", True),), help="whether every image is also mirrored"),
    Key("TEST.AUG.SCALES", [1.0], ListOf(_SCALE), only_if=(("TEST.AUG.ENABLED", True),),
        help="scales of the size at test time"),
)  # fmt: skip


def register_keys(system: str, keys: Sequence[Key]) -> None:
    """Add the rows of a system. Its keys may be those of other systems too, but not those that all have."""
    names = [key.name for key in keys]
    twice = {one for one in names if names.count(one) > 1 or one in {key.name for key in _COMMON}}
    assert not twice, f"{system} has rows for {twice} twice"
    _SYSTEMS[system] = tuple(keys)


def systems() -> list[str]:
    """The systems whose keys are known."""
    return list(_SYSTEMS)


def keys_of(system: str) -> dict[str, Key]:
    """All rows of a system by name: the common ones, its own, and a constant's for each of every ensemble."""
    return {key.name: key for key in (*_COMMON, *_SYSTEMS[system], *_ensemble_keys())}


def owners(key: str) -> list[str]:
    """The systems that have a key of their own."""
    return [system for system, keys in _SYSTEMS.items() if key in {one.name for one in keys}]


def default_config(system: str = "") -> CfgNode:
    """Detectron2's configuration with this project's keys and a system's, at their defaults.

    Args:
        system: a `MODEL.META_ARCHITECTURE`; by default the table's default.

    Raises:
        ValueError: there is no such system.
    """
    architecture = next(key for key in _COMMON if key.name == "MODEL.META_ARCHITECTURE")
    system = system or architecture.default
    architecture.checks[0](architecture.name, system, CfgNode())
    cfg = get_cfg()
    for key in keys_of(system).values():
        if key.default is DETECTRON2:
            continue
        node = cfg
        *sections, last = key.name.split(".")
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[last] = list(key.default) if isinstance(key.default, list) else key.default
    cfg.MODEL.META_ARCHITECTURE = system
    return cfg


def ensemble_constants(ensemble: type) -> dict[str, Any]:
    """Names and defaults of the constants that an ensemble's constructor takes."""
    parameters = inspect.signature(ensemble).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _ensemble_keys() -> list[Key]:
    return [
        Key(
            f"MODEL.ENSEMBLE.{ensemble.upper()}.{constant.upper()}",
            default,
            only_if=(("MODEL.ENSEMBLE.NAME", ensemble), ("TEST.ENSEMBLES", ensemble)),
            help=f"constant of the ensemble {ensemble} ({kind.__name__})",
        )
        for ensemble, kind in ENSEMBLE_REGISTRY.items()
        for constant, default in ensemble_constants(kind).items()
    ]
