"""Parsers of subcommands, all in one form: a sentence, the arguments, examples that can be run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from possam.utils.files import full_path

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = [
    "HelpFormatter",
    "add_configurations",
    "add_group",
    "add_parser",
    "add_root",
    "add_weights",
    "join_negative_values",
    "path_option",
    "read_configurations",
]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions and examples, and wide columns for long options."""

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


def path_option(text: str) -> Path:
    """The path of an option, with home folder and environment variables written out (`full_path`).

    Raises:
        ArgumentTypeError: it is empty, as of an unset variable of a shell, or cannot be written out.
    """
    if not text:
        raise argparse.ArgumentTypeError('the path is empty; give one, such as "." for the current folder')
    try:
        return full_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_group(commands: Commands, name: str, *, summary: str, examples: Sequence[str]) -> Commands:
    """Add a word that has subcommands of its own, and return those."""
    parser = add_parser(commands, name, None, summary=summary, examples=examples)
    return parser.add_subparsers(title="commands", metavar="COMMAND")


def add_configurations(parser: argparse.ArgumentParser, text: str) -> None:
    """Add a configuration and, behind it, further ones and settings, as `read_configurations` reads them.

    Args:
        text: what the first configuration is.
    """
    parser.add_argument("config", type=path_option, metavar="CONFIG", help=text)
    text = "further configurations (.yaml), and settings (KEY VALUE) that replace the configurations'"
    parser.add_argument("settings", nargs="*", metavar="CONFIG or KEY VALUE", help=text)


def read_configurations(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The configurations' files, and the settings as `KEY VALUE` pairs."""
    more = list(takewhile(lambda word: word.endswith((".yaml", ".yml")), arguments.settings))
    return [str(arguments.config), *more], list(arguments.settings[len(more) :])


def add_weights(parser: argparse.ArgumentParser, option: str = "--weights") -> None:
    """Add the option `--weights ROLE=PATH`, read as a dict, of all commands that load a saved model."""
    parser.add_argument(
        option,
        type=_role_and_path,
        action=_Collect,
        default={},
        metavar="ROLE=PATH",
        help="weights of a frozen encoder that the model needs, such as sam=sam_vit_b_01ec64.pth (repeatable)",
    )


def _role_and_path(text: str) -> tuple[str, str]:
    role, equals, path = text.partition("=")
    if not role or not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=PATH, such as sam=sam_vit_b_01ec64.pth")
    return role, path


class _Collect(argparse.Action):
    """Put (key, value) pairs together in a dict."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), values[0]: values[1]})


def add_root(parser: argparse.ArgumentParser) -> None:
    """The option `--root`, which all subcommands about datasets share."""
    parser.add_argument(
        "--root",
        type=path_option,
        metavar="DIR",
        help="folder of the datasets (default: $DETECTRON2_DATASETS, or datasets)",
    )


def join_negative_values(words: Sequence[str]) -> list[str]:
    """Write "--option -5,10" as "--option=-5,10", as argparse takes "-5,10" for an option of its own."""
    joined: list[str] = []
    for word in words:
        if joined and re.match(r"--\w[^=]*$", joined[-1]) and re.match(r"-[\d.]+,", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
