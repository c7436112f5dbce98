"""Parsers of subcommands, all in one form: a sentence, the arguments, examples that can be run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from possam.files import full_path

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["HelpFormatter", "add_group", "add_parser", "add_root"]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions and examples, and leaves room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def add_parser(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    *,
    summary: str,
    description: str = "",
    examples: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        commands: the subcommands of the parser above.
        name: the word.
        run: what is called with the parsed arguments and returns the exit code; None: print the help.
        summary: a few words for the list above; description: what its own help says, the summary if empty.
        examples: whole command lines.
    """
    text = "examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None
    parser = commands.add_parser(
        name, help=summary, description=description or summary, epilog=text, formatter_class=HelpFormatter
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_group(commands: Commands, name: str, *, summary: str, examples: Sequence[str]) -> Commands:
    """Add a word that has subcommands of its own, and return those."""
    parser = add_parser(commands, name, None, summary=summary, examples=examples)
    return parser.add_subparsers(title="commands", metavar="COMMAND")


def add_root(parser: argparse.ArgumentParser) -> None:
    """The option `--root`, which all subcommands about datasets share."""
    parser.add_argument(
        "--root",
        type=full_path,
        metavar="DIR",
        help="folder of the datasets (default: $DETECTRON2_DATASETS, or datasets)",
    )
