"""`possam data`: list, check and prepare datasets."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from possam.cli.parsing import add_group, add_parser, add_root

if TYPE_CHECKING:
    from rich.console import Console

    from possam.cli.parsing import Commands
    from possam.data.datasets import DatasetSpec
    from possam.data.doctor import Problem

__all__ = ["add_command"]

_DOCTOR = """\
Check the files of datasets: that they are there and complete, that images, label maps, panoptic PNGs and annotation
files fit each other, that classes and ids are those of the vocabulary, that pictures are whole. What is wrong is said
with the file, the value and what is expected, and with what fixes it.

Existence, counts, annotation files and the header and end of every picture are always checked; the pixels of 20 images
spread over the dataset, or with --full of all.

The exit code is 0 where all that is there is well, 1 where it is not; a dataset that is not there counts where it is
named."""
_PREPARE = """\
Make the files that a dataset's official archives do not have: label maps with contiguous classes, panoptic and instance
annotation files. `possam data list` names the datasets' preparations."""


def add_command(commands: Commands) -> None:
    data = add_group(
        commands,
        "data",
        summary="list, check and prepare datasets",
        examples=["possam data list", "possam data doctor", "possam data prepare ade20k"],
    )
    parser = add_parser(
        data,
        "list",
        run_list,
        summary="list all datasets and whether they are there",
        examples=["possam data list", "possam data list --root /data/datasets", "possam data list --json"],
    )
    add_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser = add_parser(
        data,
        "doctor",
        run_doctor,
        summary="check the files of datasets and say what fixes them",
        description=_DOCTOR,
        examples=[
            "possam data doctor",
            "possam data doctor ade20k_semantic_val --full --processes 8",
            "possam data doctor coco_panoptic_train coco_panoptic_val --root /data/datasets --json",
        ],
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets (default: all)")
    add_root(parser)
    parser.add_argument("--full", action="store_true", help="look at every pixel of every picture")
    _add_processes(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser = add_parser(
        data,
        "prepare",
        run_prepare,
        summary="make the files that the official archives do not have",
        description=_PREPARE,
        examples=[
            "possam data prepare ade20k",
            "possam data prepare coco_stuff --splits val --root /data/datasets --processes 8",
        ],
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="preparations")
    add_root(parser)
    _add_processes(parser)
    text = "those to make (default: all that are not optional)"
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help=text)
    parser.add_argument("--overwrite", action="store_true", help="make anew what is there, as after another tool")


def _add_processes(parser: argparse.ArgumentParser) -> None:
    default = min(8, os.cpu_count() or 1)
    parser.add_argument("--processes", type=_positive, default=default, metavar="N", help=f"(default: {default})")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


# ---------------------------------------------------------------- list


def run_list(arguments: argparse.Namespace) -> int:
    from possam.data.datasets import SPECS
    from possam.data.doctor import is_there
    from possam.data.root import datasets_root

    root = datasets_root(arguments.root)
    entries: list[dict[str, Any]] = [
        {
            "name": spec.name,
            "tasks": list(spec.tasks),
            "classes": len(spec.load_vocabulary()),
            "images": spec.images,
            "there": is_there(spec, arguments.root),
            "preparation": spec.preparation,
        }
        for spec in SPECS.values()
    ]
    if arguments.json:
        print(json.dumps({"root": str(root), "datasets": entries}, indent=2))
        return 0
    from possam.cli.output import console, table

    rows = [
        [e["name"], ", ".join(e["tasks"]), f"{e['classes']:,}", f"{e['images']:,}", e["there"], e["preparation"]]
        for e in entries
    ]
    headings = ["dataset", "tasks", "classes", "images", "there", "preparation"]
    console().print(table(headings, rows, right=["classes", "images"]))
    console().print(f"\nin {root.absolute()}; what is wrong or missing: possam data doctor NAME")
    return 0


# ---------------------------------------------------------------- doctor


def run_doctor(arguments: argparse.Namespace) -> int:
    from possam.data.datasets import SPECS, find_spec
    from possam.data.doctor import ABSENT
    from possam.data.root import datasets_root

    specs = [find_spec(name) for name in dict.fromkeys(arguments.names)] or list(SPECS.values())
    root = datasets_root(arguments.root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"the folder of the datasets {root.absolute()} does not exist; make it, or give another with --root or "
            "DETECTRON2_DATASETS."
        )
    found = {spec.name: _examine(spec, arguments) for spec in specs}
    if arguments.json:
        datasets = [_report(spec, found[spec.name]) for spec in specs]
        print(json.dumps({"root": str(root), "full": arguments.full, "datasets": datasets}, indent=2))
    else:
        _print_report(specs, found)
    named = bool(arguments.names)
    return int(any(named or problem.kind != ABSENT for problems in found.values() for problem in problems))


def _examine(spec: DatasetSpec, arguments: argparse.Namespace) -> list[Problem]:
    from possam.cli.output import progress_bar
    from possam.data.doctor import examine

    with progress_bar(spec.name) as progress:
        return examine(
            spec, arguments.root, full=arguments.full, processes=arguments.processes, progress=progress
        )


def _state(problems: Sequence[Problem]) -> str:
    from possam.data.doctor import ABSENT

    if not problems:
        return "well"
    return "not there" if problems[0].kind == ABSENT else "ill"


def _report(spec: DatasetSpec, problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "state": _state(problems),
        "images": spec.images,
        "problems": [problem.to_json() for problem in problems],
    }


def _print_report(specs: Sequence[DatasetSpec], found: dict[str, list[Problem]]) -> None:
    from possam.cli.output import console

    out = console()
    for spec in specs:
        problems = found[spec.name]
        state = _state(problems)
        style = {"well": "green", "not there": "dim", "ill": "bold red"}[state]
        if state == "ill":
            state = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            out.print(f"{spec.name}: {state}", style=style, soft_wrap=True)
            _print_problems(out, problems)
        else:
            text = f"{problems[0]} → {problems[0].fix}" if problems else state
            out.print(f"{spec.name}: {text}", style=style, soft_wrap=True)


def _print_problems(out: Console, problems: Sequence[Problem]) -> None:
    for problem, following in zip(problems, [*problems[1:], None], strict=True):
        out.print(f"  {problem.where}\n    {problem}", soft_wrap=True)
        # What fixes several in a row is said once.
        if following is None or following.fix != problem.fix:
            out.print(f"    → {problem.fix}", style="cyan", soft_wrap=True)


# ---------------------------------------------------------------- prepare


def run_prepare(arguments: argparse.Namespace) -> int:
    from possam.cli.output import progress_bar
    from possam.data.preparation import PREPARATIONS
    from possam.data.root import datasets_root
    from possam.utils.messages import did_you_mean

    for name in arguments.names:
        if name not in PREPARATIONS:
            hint = did_you_mean(name, PREPARATIONS)
            raise ValueError(f"unknown preparation {name!r}; the preparations are {list(PREPARATIONS)}.{hint}")
    root = datasets_root(arguments.root)
    for name in dict.fromkeys(arguments.names):
        with progress_bar(name) as progress:
            report = PREPARATIONS[name].run(
                root,
                processes=arguments.processes,
                progress=progress,
                splits=arguments.splits,
                overwrite=arguments.overwrite,
            )
        print(f"{name}: {report}", flush=True)
    return 0
