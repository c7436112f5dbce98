"""`possam train` and `possam eval`: what tools/train_net.py does."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from possam.cli.parsing import add_configurations, add_parser, read_configurations

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command"]

_TRAIN = """\
Train a model on a configuration's DATASETS.TRAIN and evaluate it on its DATASETS.TEST. Further
configurations can follow, each of which holds over those before it, and then settings as KEY VALUE. Several processes
are started with --num-gpus (gloo on a CPU, NCCL on GPUs); under torchrun, use tools/train_net.py, and on Slurm
`possam submit`. On SIGTERM, SIGUSR1 or SIGUSR2 the run saves at the end of its step and ends with exit code 75; started
again with --resume, it goes on as if never stopped. The package's own configurations are found from any folder:
mini/possam.yaml is configs/mini/possam.yaml of a clone."""
_EVAL = """\
Evaluate trained parameters on a configuration's DATASETS.TEST. A test set of configs/eval/ can follow the model's
configuration, and holds over it. Results and predictions are written under
OUTPUT_DIR/evaluation/<dataset>; docs/evaluation.md says what the numbers mean."""


def add_command(commands: Commands) -> None:
    examples = [
        "possam train configs/mini/possam.yaml OUTPUT_DIR output/mine",
        "possam train configs/coco/possam_vit_b.yaml --num-gpus 8",
        "possam train configs/coco/possam_vit_b.yaml --num-gpus 8 --resume",
    ]
    parser = _add(commands, "train", run_train, "train a model and evaluate it", _TRAIN, examples)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    examples = [
        "possam eval configs/mini/possam.yaml --weights output/mini/model_final.pth --report",
        "possam eval configs/coco/possam_vit_b.yaml configs/eval/all.yaml --num-gpus 8 "
        "--weights output/coco/vit_b/model_final.pth OUTPUT_DIR output/eval/vit_b",
    ]
    parser = _add(commands, "eval", run_eval, "evaluate a trained model", _EVAL, examples)
    parser.add_argument(
        "--weights", default="", metavar="PATH", help="a checkpoint: model_final.pth; needed by all systems that train"
    )


def _add(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    parser = add_parser(commands, name, run, summary=summary, description=description, examples=examples)
    add_configurations(parser, "a YAML file of the package, such as mini/possam.yaml, or one's own")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    parser.add_argument("--report", action="store_true", help="write an HTML report of every panoptic evaluation")
    return parser


def run_train(arguments: argparse.Namespace) -> int:
    return _run(arguments, resume=arguments.resume)


def run_eval(arguments: argparse.Namespace) -> int:
    weights = ["MODEL.WEIGHTS", arguments.weights] if arguments.weights else []
    return _run(arguments, weights, eval_only=True)


def _run(
    arguments: argparse.Namespace, more: Sequence[str] = (), *, resume: bool = False, eval_only: bool = False
) -> int:
    from possam.cli.job import JOB_ERRORS, run_job, sentence

    files, settings = read_configurations(arguments)
    job = argparse.Namespace(
        config_file=files,
        opts=[*settings, *more],
        resume=resume,
        eval_only=eval_only,
        report=arguments.report,
        num_gpus=arguments.num_gpus,
        num_machines=1,
        machine_rank=0,
        dist_url="auto",
    )
    try:
        run_job(job)
    except JOB_ERRORS as error:
        raise ValueError(sentence(error)) from error
    return 0
