"""The standard training script in parts: arguments, setup, trainer."""

import argparse
import logging
import os
import sys
import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint import DetectionCheckpointer
from ..data import build_detection_test_loader, build_detection_train_loader
from ..evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from ..modeling import build_model
from ..solver import build_lr_scheduler, build_optimizer
from ..utils import comm
from ..utils.collect_env import collect_env_info
from ..utils.env import seed_all_rng
from ..utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from ..utils.file_io import PathManager
from ..utils.logger import runtime_logger, setup_logger
from . import hooks
from .train_loop import AMPTrainer, SimpleTrainer, TrainerBase

__all__ = ["DefaultTrainer", "create_ddp_model", "default_argument_parser", "default_setup", "default_writers"]

logger = runtime_logger(__name__)


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> nn.Module:
    """Wrap a model for distributed training, where there is more than one process.

    Args:
        model: on this process's device.
        fp16_compression: exchange gradients in half precision.
        kwargs: for DistributedDataParallel.
    """
    if comm.get_world_size() == 1:
        return model
    # DistributedDataParallel takes device ids for models on GPUs only.
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    kwargs.setdefault("device_ids", [comm.get_local_rank()] if on_gpu else None)
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        wrapped.register_comm_hook(state=None, hook=fp16_compress_hook)
    return wrapped


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The options that training scripts share; what is left on the command line overrides the config."""
    script = sys.argv[0]
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"Examples:\n"
        f"  one machine:     {script} --config-file cfg.yaml --num-gpus 8 SOLVER.BASE_LR 0.001\n"
        f"  two machines:    {script} --num-machines 2 --machine-rank 0 (and 1 there) --dist-url tcp://HOST:PORT …",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="config to start from")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs (processes) on each machine")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # Different users of a machine should not meet on one port.
    user = os.getuid() if sys.platform != "win32" else 1
    url = f"tcp://127.0.0.1:{49152 + hash(user) % 16384}"
    parser.add_argument("--dist-url", default=url, help="where the processes meet")
    parser.add_argument("opts", nargs=argparse.REMAINDER, default=None, help="KEY VALUE … that override the config")
    return parser


def default_setup(cfg: Any, args: Any) -> None:
    """Loggers, a record of the environment, arguments and config, and the random seed.

    Args:
        cfg: the full config; it is also written to ``config.yaml`` in OUTPUT_DIR.
        args: the parsed command line; ``eval_only`` and ``config_file`` are looked at if there.
    """
    folder, rank = cfg.OUTPUT_DIR, comm.get_rank()
    if comm.is_main_process() and folder:
        PathManager.mkdirs(folder)
    setup_logger(folder or None, distributed_rank=rank, name="fvcore")
    log = setup_logger(folder or None, distributed_rank=rank)
    log.info(f"This is process {rank} of {comm.get_world_size()}")
    log.info(f"Environment:\n{collect_env_info()}")
    log.info(f"Command line: {args}")
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r", encoding="utf-8") as file:
            log.info(f"Contents of {config_file}:\n{file.read()}")
    if comm.is_main_process() and folder:
        log.info(f"Full config:\n{cfg.dump()}")
        with PathManager.open(os.path.join(folder, "config.yaml"), "w", encoding="utf-8") as file:
            file.write(cfg.dump())
    # Ranks differ, or they would augment alike.
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):  # benchmarking pays off over many equal batches
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        log.info(f"float32 precision: {cfg.FLOAT32_PRECISION}")
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """The terminal, ``metrics.json`` and TensorBoard, the latter two in ``output_dir``."""
    PathManager.mkdirs(output_dir)
    metrics = os.path.join(output_dir, "metrics.json")
    return [CommonMetricPrinter(max_iter), JSONWriter(metrics), TensorboardXWriter(output_dir)]


def _of_inner_trainer(name: str) -> Any:
    return property(lambda self: getattr(self._trainer, name), lambda self, value: setattr(self._trainer, name, value))


class DefaultTrainer(TrainerBase):
    """Training as a config describes it: model, optimizer, loaders, hooks, evaluation.

    Subclasses replace parts by overriding the ``build_…`` methods. ``model``, ``optimizer`` and ``data_loader`` are
    those of the `SimpleTrainer` or `AMPTrainer` inside, ``_trainer``.
    """

    _trainer: SimpleTrainer
    model = _of_inner_trainer("model")
    optimizer = _of_inner_trainer("optimizer")
    data_loader = _of_inner_trainer("data_loader")

    def __init__(self, cfg: Any):
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # nobody has: a script without default_setup should not train in silence
        if cfg.SOLVER.REFERENCE_WORLD_SIZE not in (0, comm.get_world_size()):
            raise ValueError("SOLVER.REFERENCE_WORLD_SIZE (scaling to the number of processes) needs Detectron2")
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        step = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = step(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # Weak, or the trainer and its checkpointer would keep each other alive.
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR if ``resume`` and there is one, else load MODEL.WEIGHTS."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # The checkpoint holds the last iteration done.
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Timer, learning rate, checkpoints, evaluation, writers, in this order."""
        cfg = self.cfg
        if cfg.TEST.PRECISE_BN.ENABLED or len(cfg.TEST.EXPECTED_RESULTS):
            raise ValueError("TEST.PRECISE_BN and TEST.EXPECTED_RESULTS need Detectron2")

        result: list[hooks.HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        # Saved before the evaluation, so that a failure there costs nothing.
        if comm.is_main_process():
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, lambda: self.test(self.cfg, self.model)))
        if comm.is_main_process():
            # Last, to write what the others recorded.
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def build_writers(self) -> list[EventWriter]:
        """`default_writers` into OUTPUT_DIR."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> None:  # type: ignore[override]
        """Train from ``start_iter`` to ``max_iter``."""
        super().train(self.start_iter, self.max_iter)

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """The model, on its device."""
        model = build_model(cfg)
        logger.info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's trainable parameters."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: Any, optimizer: torch.optim.Optimizer) -> Any:
        """The schedule of the learning rate."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """The loader of training batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
        """The loader of one test dataset."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str) -> DatasetEvaluator:
        """The evaluator of one test dataset; there is no default one."""
        raise NotImplementedError("override build_evaluator, or pass evaluators to test()")

    @classmethod
    def test(cls, cfg: Any, model: nn.Module, evaluators: Any = None) -> Any:
        """Evaluate on every dataset of DATASETS.TEST.

        Args:
            cfg: the config.
            model: the model.
            evaluators: one per dataset; by default those of `build_evaluator`.

        Returns:
            {dataset: results}, or the results themselves where there is one dataset.
        """
        names = list(cfg.DATASETS.TEST)
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        assert evaluators is None or len(evaluators) == len(names), f"{len(names)} datasets need as many evaluators"
        results: dict[str, Any] = {}
        for position, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = cls.build_evaluator(cfg, name) if evaluators is None else evaluators[position]
            except NotImplementedError as error:
                logger.warning(f"'{name}' is not evaluated: {error}")
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                assert isinstance(results[name], dict), f"an evaluator returned {type(results[name])}, not a dict"
                logger.info(f"Results for {name}:")
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results
