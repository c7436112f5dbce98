"""`possam report`: an evaluation as one page of HTML."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from possam.cli.parsing import add_parser, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_arguments", "add_command", "run"]

_DESCRIPTION = """\
Write the report of a panoptic evaluation as one page of HTML that needs no other file: scores, classes, confusions, the
best and the worst images, calibration. The dataset has to be where it was evaluated."""


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "report",
        run,
        summary="write an evaluation as one page of HTML",
        description=_DESCRIPTION,
        examples=[
            "possam report output/demo/evaluation/mini_b_report",
            "possam report output/demo/evaluation/mini_b_report --images 10 --output report.html",
        ],
    )
    text = "OUTPUT_DIR/evaluation/<dataset> of an evaluation"
    parser.add_argument("evaluation", type=path_option, metavar="FOLDER", help=text)
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tools/report.py has, too."""
    parser.add_argument("--dataset", metavar="NAME", help="its registered name (default: what the evaluation says)")
    parser.add_argument("--output", type=path_option, metavar="PATH", help="(default: report.html in that folder)")
    text = "how many of the best and of the worst images to show (default: 6)"
    parser.add_argument("--images", type=int, default=6, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> int:
    from possam.report import write_report

    page = write_report(
        arguments.evaluation, dataset=arguments.dataset, output=arguments.output, images=arguments.images
    )
    print(page)
    return 0
