"""Detectron2's default trainer with this project's data, optimizer, checkpoints and evaluation."""

from __future__ import annotations

import inspect
import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from possam.config import PRECISIONS
from possam.d2.config import CfgNode
from possam.d2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from possam.d2.engine import DefaultTrainer, HookBase, TrainerBase, hooks
from possam.d2.modeling import build_model
from possam.d2.utils import EventWriter, comm
from possam.data.prompts import has_instances
from possam.encoders import FeatureCache
from possam.engine.checkpoint import Checkpointer
from possam.engine.config import check_trainable, schedule_warning
from possam.engine.data_check import check_class_names, check_data, check_test_sets
from possam.engine.datasets import build_test_mapper, build_train_mapper, check_queries, check_sources
from possam.engine.evaluate import build_predictor, evaluate_datasets
from possam.engine.features import training_features
from possam.engine.hooks import ExactResume
from possam.engine.optimizer import build_optimizer, present_settings
from possam.engine.preemption import Preemption
from possam.engine.progress import TrainingProgress
from possam.engine.prompted import prompt_options
from possam.engine.resume import ResumableLoader, SeededSamples, TrainingOrder
from possam.engine.run_folder import EARLIER
from possam.engine.settings import differences, effective_keys, fixed_keys, images_digest, training_settings
from possam.engine.step import TrainingStep
from possam.engine.unreadable import ReadableSamples
from possam.engine.writers import build_writers, check_writers, set_aside
from possam.models import OpenVocabularySegmenter, model_spec
from possam.utils.processes import end_with_parent

logger = logging.getLogger(__name__)

# PyTorch 2.13 gave DDP's argument another name.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_LEAVE_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}


class Trainer(DefaultTrainer):
    """Trains a meta-architecture on `DATASETS.TRAIN` and evaluates it on `DATASETS.TEST`, each with its own names."""

    def __init__(self, cfg: CfgNode) -> None:
        # Not DefaultTrainer's own: it places DDP on a CUDA device, runs AMP in fp16 only, and checkpoints loosely.
        TrainerBase.__init__(self)
        check_trainable(cfg)
        check_writers(cfg)
        if warning := schedule_warning(cfg):
            logger.warning(warning)
        records = training_records(cfg)
        check_queries(cfg, records)
        for name in cfg.DATASETS.TRAIN:
            own = [record for record in records if record["dataset"] == name]
            check_data(cfg, [name], own, limit=cfg.DATALOADER.MAX_UNREADABLE)
        check_test_sets(cfg)  # what is wrong with a test set is said now, not after the training
        model = self.build_model(cfg)
        check_class_names(cfg, model)
        optimizer = self.build_optimizer(cfg, model)
        cache = training_features(cfg, model, records) if cfg.INPUT.CACHE_FEATURES else None
        loader = build_train_loader(cfg, records, cache)
        self._trainer = build_step(cfg, distribute(model), loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            self._trainer.model, cfg.OUTPUT_DIR, keep=cfg.SOLVER.MAX_TO_KEEP, trainer=weakref.proxy(self)
        )
        self.checkpointer.check_folder()
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.images = images_digest(records)
        self.vocabularies = {name: MetadataCatalog.get(name).vocabulary.sha256 for name in cfg.DATASETS.TRAIN}
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase | None]:
        made = [hook for hook in super().build_hooks() if not isinstance(hook, hooks.PeriodicWriter)]
        schedule = next(place for place, hook in enumerate(made) if isinstance(hook, hooks.LRScheduler))
        made.insert(schedule + 1, Preemption(self.checkpointer))
        if comm.is_main_process():
            period = self.cfg.LOG.PERIOD
            made.insert(schedule + 1, TrainingProgress(images=self.cfg.SOLVER.IMS_PER_BATCH, period=period))
            made.append(hooks.PeriodicWriter(self.build_writers(), period=period))
        return [ExactResume(self._trainer.data_loader), *made]

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR if `resume` and there is one, else load `MODEL.WEIGHTS`."""
        super().resume_or_load(resume=resume)
        if self.start_iter and self.cfg.MODEL.WEIGHTS:
            logger.warning(
                "The run goes on from its checkpoint of step %d in %s, and MODEL.WEIGHTS %s is not loaded; to start "
                "from that, leave out --resume.",
                *(self.start_iter, self.cfg.OUTPUT_DIR, self.cfg.MODEL.WEIGHTS),
            )
        if self.start_iter >= self.max_iter:
            logger.warning(
                "The checkpoint has had all %d steps of SOLVER.MAX_ITER: nothing is trained. Set more to go on.",
                self.max_iter,
            )

    def train(self) -> None:  # type: ignore[override]
        """Train from `start_iter` to `max_iter`; from then on the checkpoints that --resume finds are this run's."""
        if comm.is_main_process() and not self.start_iter:
            last = self.checkpointer.begin()
            set_aside(self.cfg.OUTPUT_DIR)
            if last:
                logger.warning(
                    "OUTPUT_DIR %s already has checkpoints of an earlier run, the last of them %s. The present run "
                    "starts at iteration 0, replaces files of the same name, and with --resume goes on from its own "
                    "checkpoints alone. To use the earlier run's weights, set MODEL.WEIGHTS to that file; to go on "
                    "with that run, delete %s and use --resume.",
                    *(self.cfg.OUTPUT_DIR, last, EARLIER),
                )
        super().train()

    def state_dict(self) -> dict[str, Any]:
        about = {"images": self.images, "vocabularies": self.vocabularies}
        return {**super().state_dict(), "config": training_settings(self.cfg), **about}

    def check_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that this run can go on from a checkpoint, and name the settings that change in a warning.

        Raises:
            ValueError: it has had more steps than `SOLVER.MAX_ITER`, or is of another model or another order of data,
                or does not say how many steps it has had.
        """
        last = state_dict.get("iteration")
        if type(last) is not int or last < 0:
            raise ValueError(
                f"The checkpoint cannot be gone on from: its last iteration is {last!r:.80}, which is no whole number "
                "of at least 0. Take an earlier one, or start from its weights with MODEL.WEIGHTS."
            )
        done = last + 1
        if done > self.max_iter:
            raise ValueError(
                f"The checkpoint is of step {done}, but SOLVER.MAX_ITER is {self.max_iter}; set it to {done} or more."
            )
        saved, present = state_dict.get("config"), training_settings(self.cfg)
        if saved is None:
            logger.warning(
                "The checkpoint is of an earlier version and does not keep the settings it was trained with, so they "
                "are not compared: the present ones hold from step %d on.", done + 1
            )  # fmt: skip
            return
        refused = differences(saved, present, fixed_keys(self.cfg))
        if state_dict.get("images", self.images) != self.images:
            refused.append("the images of DATASETS.TRAIN are others or in another order")
        before = state_dict.get("vocabularies", {})
        others = [name for name, words in self.vocabularies.items() if before.get(name, words) != words]
        if others:
            refused.append(f"the classes of {', '.join(others)} are others")
        if refused:
            raise ValueError(
                f"The checkpoint cannot be gone on from, since the model or the order of the data would be another: "
                f"{'; '.join(refused)}. Set it as it was, or start a new run in another OUTPUT_DIR without --resume; "
                "MODEL.WEIGHTS takes the weights alone."
            )
        if changed := differences(saved, present, effective_keys(self.cfg)):
            logger.warning("Settings differ from the checkpoint's and hold from step %d on: %s.",
                           done + 1, "; ".join(changed))  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, under the present settings of optimizer and schedule.

        Raises:
            ValueError: it holds no state of the optimizer, or one that is damaged (`present_settings`).
        """
        saved = self.cfg.clone()
        saved.defrost()
        for key, value in state_dict.get("config", {}).items():
            if key.startswith("SOLVER.WEIGHT_DECAY"):  # they make the optimizer's groups
                saved.SOLVER[key.removeprefix("SOLVER.")] = value
        step = state_dict.get("_trainer", {})
        optimizer = present_settings(self.optimizer, step.get("optimizer", {}), model=self.model, saved=saved)
        super().load_state_dict({**state_dict, "_trainer": {**step, "optimizer": optimizer}})
        groups = self.optimizer.param_groups
        self.scheduler.base_lrs = [group["initial_lr"] for group in groups]
        self.scheduler.last_epoch = self.iter + 1
        for group, rate in zip(groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate

    def after_train(self) -> None:
        """Let hooks finish; after a failed step without evaluating, and without an error that would hide the first."""
        if self.iter >= self.max_iter:
            super().after_train()
            return
        self.storage.iter = self.iter
        for hook in self._hooks:
            if isinstance(hook, hooks.EvalHook):
                continue  # a step failed, perhaps in this process alone: to evaluate would be to wait
            try:
                hook.after_train()
            except Exception as error:
                logger.warning("%s could not finish after the error: %s", type(hook).__name__, error)

    def build_writers(self) -> list[EventWriter]:
        return build_writers(self.cfg)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> OpenVocabularySegmenter:
        model = unwrap(build_model(cfg))
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        frozen = sum(parameter.numel() for parameter in model.parameters()) - trained
        name = type(model).__name__
        logger.info("%s: %.2f M trained and %.2f M frozen parameters", name, trained / 1e6, frozen / 1e6)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict[str, Any]:
        """Score the model on every dataset of `DATASETS.TEST`; results by dataset, task and metric."""
        bare = unwrap(model)
        return evaluate_datasets(cfg, bare, partial(build_test_loader, cfg), predictor=build_predictor(cfg, bare))


def training_records(cfg: CfgNode) -> list[dict[str, Any]]:
    """The dicts of all training datasets one after the other, each with the name of its "dataset".

    Raises:
        ValueError: there is none, one has no images, or they cannot be trained on together (`check_sources`).
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty; name at least one dataset to train on.")
    check_sources(cfg)
    batch, processes, passes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size(), cfg.SOLVER.GRAD_ACCUM_STEPS
    if batch % (processes * passes):
        shares = f"{processes} processes" + (f" times SOLVER.GRAD_ACCUM_STEPS {passes}" if passes > 1 else "")
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch}, which is not a multiple of the {shares}.")
    records = [{**record, "dataset": name} for name in cfg.DATASETS.TRAIN for record in _records(name)]
    if model_spec(cfg.MODEL.META_ARCHITECTURE).prompts:  # an image without instances has none to ask for
        records = [record for record in records if has_instances(record)]
        if not records:
            raise ValueError(f"No image of DATASETS.TRAIN {list(cfg.DATASETS.TRAIN)} has an instance to ask for.")
    return records


def _records(name: str) -> list[dict[str, Any]]:
    """The dicts of a dataset. Raises ValueError where it has no images."""
    try:
        # An image without segments still teaches the model what is nothing.
        records: list[dict[str, Any]] = get_detection_dataset_dicts([name], filter_empty=False)
    except AssertionError as error:
        raise ValueError(f"The dataset {name} has no images: {error}.") from error
    return records


def build_train_loader(cfg: CfgNode, records: list[dict[str, Any]], cache: FeatureCache | None) -> ResumableLoader:
    """An endless loader of batches of training inputs; `SEED` gives their order and all that is random about them."""
    mapper = partial(_map_record, {name: build_train_mapper(cfg, name, cache) for name in cfg.DATASETS.TRAIN})
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    order = TrainingOrder(
        size=len(records),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        seed=seed,
        wide=[record["width"] > record["height"] for record in records] if grouped else None,
        parts=[
            (sum(record["dataset"] == name for record in records), weight)
            for name, weight in zip(cfg.DATASETS.TRAIN, cfg.DATASETS.TRAIN_WEIGHTS, strict=False)
        ],
    )
    loader = build_detection_train_loader(
        ReadableSamples(SeededSamples(records, mapper), limit=cfg.DATALOADER.MAX_UNREADABLE),
        mapper=None,
        sampler=order,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,  # the order is grouped already, and so can be gone on with
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=seed,  # else starting the loader would draw from the generator of the model
    )
    return ResumableLoader(_ending_with_this_process(loader), order)


def _map_record(mappers: Mapping[str, Callable[..., dict[str, Any]]], record: Mapping[str, Any]) -> dict[str, Any]:
    return mappers[record["dataset"]](record)


def build_test_loader(cfg: CfgNode, dataset: str, *, prompts: bool = False) -> Any:
    """A loader that gives this process's share of a test set, each image once; with the prompts of `TEST.PROMPTED`."""
    records = _records(dataset)
    options = prompt_options(cfg, dataset, records) if prompts else None
    loader = build_detection_test_loader(
        records,
        mapper=build_test_mapper(cfg, MetadataCatalog.get(dataset).vocabulary, options),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        batch_size=cfg.TEST.BATCH_SIZE,
    )
    return _ending_with_this_process(loader)


def _ending_with_this_process(loader: Any) -> Any:
    """The same PyTorch loader, none of whose processes outlives this one."""
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


def _start_worker(initialize: Callable[[int], None] | None, worker: int) -> None:
    end_with_parent()
    if initialize is not None:
        initialize(worker)


def distribute(model: nn.Module) -> nn.Module:
    """Wrap the model in DDP when the run has several processes, on the CPU (gloo) as well as on CUDA devices."""
    if comm.get_world_size() == 1:
        return model
    for buffer in model.buffers():
        # DDP copies them only with broadcast_buffers, and each process has drawn its own random ones.
        torch.distributed.broadcast(buffer, src=0)
    devices = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
    # Every trained parameter gets a gradient in every step, so that none need be looked for.
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, **_LEAVE_BUFFERS)


def unwrap(model: nn.Module) -> OpenVocabularySegmenter:
    """The model itself, out of DDP's wrapper if it is in one."""
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(bare, OpenVocabularySegmenter):
        raise TypeError(f"expected a model of possam.models, but got a {type(bare).__name__}")
    return bare


def build_step(cfg: CfgNode, model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer) -> TrainingStep:
    """The training step of a configuration; `loader` gives this process's inputs of a step."""
    solver = cfg.SOLVER
    return TrainingStep(
        model=model,
        loader=loader,
        optimizer=optimizer,
        accumulate=solver.GRAD_ACCUM_STEPS,
        clip=solver.CLIP_GRADIENTS.CLIP_VALUE if solver.CLIP_GRADIENTS.ENABLED else math.inf,
        precision=PRECISIONS[solver.AMP.PRECISION] if solver.AMP.ENABLED else None,
        skip=solver.NON_FINITE == "skip",
    )
