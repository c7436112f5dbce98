"""`possam submit`: a training run for Slurm, through submitit."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from possam.cli.parsing import add_configurations, add_parser, read_configurations

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["Run", "add_arguments", "add_command", "run", "submit"]

MISSING = "Submitting needs submitit, which is not installed; install it with `pip install 'possam[slurm]'`."
_DESCRIPTION = """\
Submit a training run to Slurm. Preempted or out of time, it saves, is requeued and resumes. Every
GPU has its process, which Slurm starts; the run's settings are those of `possam train`. For `possam segment`, whose
processes share the files, use tools/submit.py."""


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "submit",
        run,
        summary="submit a training run to Slurm",
        description=_DESCRIPTION,
        examples=[
            "possam submit configs/coco/possam_vit_b.yaml OUTPUT_DIR output/vit_b --partition gpu --gpus-per-node 8",
            "possam submit configs/coco/possam_vit_h.yaml --nodes 4 --gpus-per-node 8 --resume "
            "--slurm account=vision --slurm qos=high",
        ],
    )
    add_configurations(parser, "configuration of the run")
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tools/submit.py has, too."""
    add = parser.add_argument
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any, from the start")
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--partition", metavar="NAME", help="Slurm's partition (default: the cluster's)")
    add("--nodes", type=int, default=1, metavar="N", help="machines (default: 1)")
    add("--gpus-per-node", type=int, default=1, metavar="N", help="GPUs of each, with a process each (default: 1)")
    add("--processes-per-node", type=int, metavar="N", help="where there are no GPUs")
    add("--cpus-per-process", type=int, default=8, metavar="N", help="at least 1 + DATALOADER.NUM_WORKERS (default: 8)")
    add("--hours", type=float, default=24.0, help="before the job is requeued (default: 24)")
    delay = "how long before that a signal stops it: time for a step or an evaluation, and a checkpoint (default: 300)"
    add("--signal-delay", type=int, default=300, metavar="SECONDS", help=delay)
    add("--restarts", type=int, default=100, metavar="N", help="how often it may run out of time (default: 100)")
    add("--slurm", action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch; may be repeated")
    add("--name", help="of the job (default: that of the output folder)")
    add("--cluster", choices=["slurm", "local"], default="slurm", help="local: run it here, to try it")


def run(arguments: argparse.Namespace) -> int:
    arguments.config_file, arguments.opts = read_configurations(arguments)
    job = submit(arguments)
    print(f"Job {job.job_id}: {job.paths.stdout}")
    return 0


class Run:
    """A training run as submitit calls it, in every process of the job."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args

    def __call__(self) -> None:
        from possam.cli.job import run_job
        from possam.engine.preemption import Preempted

        job = _join_processes()
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")):
            self.args.resume = True  # Slurm itself has requeued it, after a node failed
        number = getattr(signal, f"SIG{job.USR_SIG}")
        requeue: Any = signal.getsignal(number)  # submitit's, which would not wait for the end of a step
        try:
            run_job(self.args)
        except Preempted:
            if job.global_rank == 0:
                requeue(number, None)
            sys.exit(0)  # anything else may have the first process killed while it requeues

    def checkpoint(self) -> Any:
        """Return the job that submitit requeues."""
        from submitit.helpers import DelayedSubmission

        self.args.resume = True
        return DelayedSubmission(self)


class Prediction:
    """`possam segment` as submitit calls it, in every process of the job; its journal makes it resume."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __call__(self) -> None:
        from possam.cli import main

        _join_processes()
        if code := main(self.words):
            sys.exit(code)

    def checkpoint(self) -> Any:
        """Return the job that submitit requeues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _join_processes() -> Any:
    """Set the environment to that of torchrun. Returns submitit's description of the job."""
    import submitit
    from submitit.helpers import TorchDistributedEnvironment

    job = submitit.JobEnvironment()
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if job.num_nodes == 1:
        os.environ["MASTER_ADDR"] = "127.0.0.1"  # a machine need not know its own name
    return job


def _work(args: argparse.Namespace) -> tuple[Run | Prediction, Path]:
    """Return what is to be run, and its output folder. Raises ValueError for a mistake."""
    if args.config_file:
        from possam.engine.config import load_config

        cfg = load_config(args.config_file, args.opts)
        run = {"config_file": args.config_file, "opts": args.opts, "resume": args.resume, "eval_only": args.eval_only}
        return Run(argparse.Namespace(**run)), Path(cfg.OUTPUT_DIR)
    if args.opts[:1] != ["segment"]:
        raise ValueError("there is nothing to submit; give a configuration, or segment and its words.")
    if args.resume or args.eval_only:
        raise ValueError("--resume and --eval-only are for training; `possam segment` goes on by itself.")
    from possam.cli import build_parser as command
    from possam.cli.segment import check_arguments

    arguments = command().parse_args(args.opts)
    check_arguments(arguments)
    return Prediction(args.opts), arguments.output


def submit(args: argparse.Namespace) -> Any:
    """Submit a training run or a prediction.

    Args:
        args: those of `add_arguments`, and config_file, opts as tools/train_net.py has them.

    Returns:
        submitit's job.

    Raises:
        ValueError: the configuration is wrong, submitit is missing, or there is no Slurm here.
    """
    work, folder = _work(args)
    try:
        import submitit
    except ImportError as error:
        raise ValueError(MISSING) from error
    if odd := [setting for setting in args.slurm if "=" not in setting]:
        raise ValueError(f"--slurm {odd[0]} is not KEY=VALUE, such as --slurm account=vision.")
    try:
        executor = submitit.AutoExecutor(folder / "jobs", args.cluster, slurm_max_num_timeout=args.restarts)
    except RuntimeError as error:
        raise ValueError(f"{error} Submit from a machine of the cluster, or try --cluster local.") from error
    executor.update_parameters(
        name=args.name or folder.name,
        nodes=args.nodes,
        tasks_per_node=args.processes_per_node or max(args.gpus_per_node, 1),
        gpus_per_node=args.gpus_per_node,
        cpus_per_task=args.cpus_per_process,
        timeout_min=round(args.hours * 60),
        slurm_partition=args.partition,
        slurm_signal_delay_s=args.signal_delay,
        slurm_additional_parameters=dict(setting.split("=", 1) for setting in args.slurm),
    )
    return executor.submit(work)
