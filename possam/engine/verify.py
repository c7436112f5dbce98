"""Whether a configuration can be run: its model is built and its datasets are looked up, without weights or data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from possam.config import ConfigFiles, find_config, keys_of, list_files, read_with_bases, setting, unused_settings
from possam.d2.config import CfgNode
from possam.d2.data import MetadataCatalog
from possam.engine.config import load_config, schedule_warning
from possam.engine.datasets import check_sources, prepare_datasets
from possam.evaluation import possible_tasks
from possam.models import model_spec
from possam.utils.messages import few

__all__ = ["find_configs", "is_test_set", "verify_config"]

# A configuration for GPUs is verified on any machine.
_ANYWHERE = ("MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False")
_COUNTS: dict[str, tuple[int, int]] = {}


def verify_config(path: ConfigFiles, overrides: Sequence[str] = ()) -> str:
    """Build a configuration's model on the meta device and look up its datasets; neither weights nor data are read.

    Checked are: every key and value; that the weights of every frozen encoder are official ones of its name, or a file
    that is there; that all parts of the model fit together; that every dataset is
    registered, its vocabulary loads, training sets share one, and every task has a test set that can be scored on it.

    Args:
        path: a YAML file, or several, of which a later one holds over those before it.
        overrides: `KEY VALUE` pairs, as on the command line of a training.

    Returns:
        one line: the model with its trained and frozen parameters, and what it trains and tests on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the reason why it could not be run.
    """
    with _quiet():
        cfg = load_config(path, [*overrides, *_ANYWHERE])
        ignored = unused_settings(cfg)
        cfg.DATASETS.CLASS_NAMES = ""  # whose files need not be here either: the classes are the tables'
        spec = model_spec(cfg.MODEL.META_ARCHITECTURE)
        for role, encoder in spec.encoders.items():
            node = cfg.MODEL[role.upper()]
            encoder.check_weights(key=f"MODEL.{role.upper()}", name=node.NAME, weights=node.WEIGHTS)
        prepare_datasets(cfg)
        data = f"{_training(cfg)}, {_tests(cfg)}"
        trained, frozen = _count_parameters(cfg)
    size = f"{cfg.MODEL.META_ARCHITECTURE}, {trained / 1e6:.2f} M trained, {frozen / 1e6:.2f} M frozen"
    warning = f"; without effect: {', '.join(ignored)}" if ignored else ""
    warning += f"; {doubt}" if (doubt := schedule_warning(cfg)) else ""
    return f"{' + '.join(map(str, list_files(path)))}: {size}; {data}{warning}"


def find_configs(folder: str | Path = "configs") -> list[Path]:
    """Every configuration under a folder that can be run, and every test set (`is_test_set`), sorted by path.

    Others that name no training vocabulary, neither by a training dataset nor by itself, are parts that others take as
    their `_BASE_`. A file that cannot be read is among those returned, for `verify_config` to say why.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = find_config(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; name one of configurations, or none for the package's.")
    return [path for path in sorted(folder.rglob("*.yaml")) if not _is_part(path) or is_test_set(path)]


def is_test_set(path: str | Path) -> bool:
    """Whether a configuration says what to test on and nothing of the model, which another file has to give."""
    if not _is_part(Path(path)):
        return False
    (*bases, own) = read_with_bases(Path(path))
    model = [key for key in own.settings if key.startswith("MODEL.") and not key.startswith("MODEL.MASK_FORMER.TEST.")]
    return bool(own.settings.get("DATASETS.TEST")) and not model and not bases


def _is_part(path: Path) -> bool:
    try:
        files = read_with_bases(path)
    except (ValueError, FileNotFoundError):
        return False
    return not (setting(files, "DATASETS.TRAIN") or setting(files, "MODEL.TRAIN_VOCABULARY"))


def _training(cfg: CfgNode) -> str:
    vocabularies = check_sources(cfg)
    if not vocabularies:
        raise ValueError(
            "It names no training vocabulary, so that it cannot be run by itself; set DATASETS.TRAIN or "
            "MODEL.TRAIN_VOCABULARY, use a configuration that has it as a _BASE_, or give it behind one of a model."
        )
    classes = {name: f"({len(vocabulary)} classes)" for name, vocabulary in vocabularies.items()}
    if len({*classes.values()}) == 1:
        return f"trains {' + '.join(cfg.DATASETS.TRAIN) or 'nothing'} {next(iter(classes.values()))}"
    return f"trains {' + '.join(f'{name} {classes[name]}' for name in cfg.DATASETS.TRAIN)}"


def _tests(cfg: CfgNode) -> str:
    scored: dict[str, list[str]] = {}
    for name in cfg.DATASETS.TEST:
        possible = possible_tasks(MetadataCatalog.get(name).tasks)
        scored[name] = [task for task in cfg.TEST.TASKS if task in possible]
        if not scored[name]:
            allowed = f"can only be scored on {list(possible)}" if possible else "has no masks, and cannot be scored"
            raise ValueError(f"TEST.TASKS is {cfg.TEST.TASKS}, but {name} {allowed}.")
    without = [task for task in cfg.TEST.TASKS if scored and not any(task in tasks for tasks in scored.values())]
    if without:
        raise ValueError(f"TEST.TASKS has {few(without)}, on which none of {few(list(scored))} can be scored.")
    parts = [
        f"{name} ({len(MetadataCatalog.get(name).vocabulary)} classes: {', '.join(tasks)})"
        for name, tasks in scored.items()
    ]
    return f"tests {', '.join(parts) or 'nothing'}"


def _count_parameters(cfg: CfgNode) -> tuple[int, int]:
    """Trained and frozen parameters of the model that `cfg` builds."""
    cfg = cfg.clone()
    spec = model_spec(cfg.MODEL.META_ARCHITECTURE)
    files = [key for key in keys_of(spec.name) if key.startswith("MODEL.") and key.endswith(".WEIGHTS")]
    cfg.merge_from_list([part for key in [*files, "MODEL.TEXT_CACHE"] for part in (key, "")])
    # Many configurations share a model and differ in their datasets alone: it is built once.
    key = f"{cfg.MODEL.dump()}{cfg.TEST.ENSEMBLES}"
    if key not in _COUNTS:
        # Not `build_model`, which would move the model to a device, and what is on none cannot be moved.
        with torch.device("meta"):
            model: nn.Module = spec.build(cfg)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        _COUNTS[key] = trained, sum(parameter.numel() for parameter in model.parameters()) - trained
    return _COUNTS[key]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings about random weights, which are on purpose here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
