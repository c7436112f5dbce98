"""The command `possam`: one file a subcommand, and one line in `COMMANDS` each.

A subcommand's file has ``add_command(commands)``, which builds its parser with `possam.cli.parsing.add_parser`. What
is heavy to import, PyTorch above all, is imported where a subcommand runs, so that `possam --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from possam import __version__
from possam.cli import configs as configs
from possam.cli import data as data
from possam.cli import demo as demo
from possam.cli import export as export
from possam.cli import info as info
from possam.cli import segment as segment
from possam.cli import train as train
from possam.cli import weights as weights
from possam.cli.parsing import HelpFormatter

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = (
    segment,
    demo,
    train,
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
        the exit code: 0 where all is well, 1 on problems and on errors of the user's, which are one sentence on
        stderr, 2 on words that are no command (argparse exits), 130 on Ctrl-C, 75 for a training that was told to
        make room.
    """
    arguments, rest = build_parser().parse_known_args(argv)
    if rest and hasattr(arguments, "settings") and not any(word.startswith("-") for word in rest):
        arguments.settings += rest  # KEY VALUE behind an option, where argparse no longer takes them
    elif rest:
        arguments.parser.error(f"unknown words: {' '.join(rest)}")
    if arguments.run is None:
        arguments.parser.print_help(sys.stderr)
        return 2
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has gone; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return 1


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its rights."
    return str(error)
