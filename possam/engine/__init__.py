"""Running the models: configuration, training, checkpoints, evaluation."""

from possam.engine.checkpoint import Checkpointer
from possam.engine.config import check_config, load_config
from possam.engine.datasets import prepare_datasets
from possam.engine.evaluate import evaluate, evaluate_datasets
from possam.engine.launch import run
from possam.engine.trainer import Trainer, unwrap

__all__ = [
    "Checkpointer",
    "Trainer",
    "check_config",
    "evaluate",
    "evaluate_datasets",
    "load_config",
    "prepare_datasets",
    "run",
    "unwrap",
]
