"""The command `possam`: one file a subcommand, and one line in `COMMANDS` each.

A subcommand's file has ``add_command(commands)``, which builds its parser with `possam.cli.parsing.add_parser`. What
is heavy to import, PyTorch above all, is imported where a subcommand runs, so that `possam --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import shtab

from possam import __version__
from possam.cli import configs as configs
from possam.cli import data as data
from possam.cli import demo as demo
from possam.cli import export as export
from possam.cli import info as info
from possam.cli import report as report
from possam.cli import segment as segment
from possam.cli import share as share
from possam.cli import submit as submit
from possam.cli import train as train
from possam.cli import weights as weights
from possam.cli.parsing import HelpFormatter, join_negative_values
from possam.utils.messages import describe_os_error
from possam.utils.output import run_command

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = (
    segment,
    demo,
    train,
    submit,
    report,
    share,
    export,
    data,
    weights,
    configs,
    info,
)

_EXAMPLES = """\
examples:
  possam segment --sample --output output/sample
  possam demo
  possam train configs/mini/possam.yaml
  possam export possam-mini --output output/export
  possam data list
  possam data doctor coco_panoptic_val
  possam weights download sam_vit_b
  possam configs verify
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="possam",
        description="Open-vocabulary panoptic segmentation: pictures and words in, masks and names out.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"possam {__version__}")
    help_text = "print a script that completes words in this shell, and exit"
    shtab.add_argument_to(parser, "--print-completion", help=help_text)
    parser.set_defaults(run=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the words after `possam`; None: those of the process.
    Returns:
        the exit code: 0 without problems, 1 on problems, on errors of the user's, which are one sentence on stderr,
        and where stdout did not take all that was printed, 2 on words that are no command (argparse exits), 130 on
        Ctrl-C, 75 for a training that saved and stopped on a signal.
    """
    return run_command(_main, argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments, rest = build_parser().parse_known_args(join_negative_values(sys.argv[1:] if argv is None else argv))
    if rest and hasattr(arguments, "settings") and not any(word.startswith("-") for word in rest):
        arguments.settings += rest  # KEY VALUE behind an option, where argparse no longer takes them
    elif rest:
        arguments.parser.error(f"unknown words: {' '.join(rest)}")
    if arguments.run is None:
        arguments.parser.print_help(sys.stderr)
        return 2
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        sentence = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print(f"error: {sentence}", file=sys.stderr)
        return 1
