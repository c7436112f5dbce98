"""`possam demo`: the page on which pictures are given and words are typed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from possam.cli.parsing import add_parser, add_weights

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_arguments", "add_command", "run"]

_DESCRIPTION = """\
Serve a page on this machine: give a picture, say what to look for, see the segments, and click one to see why it got
its name. Needs Gradio: pip install 'possam[demo]'. Without --model it runs the miniature model of the package, which
knows only drawings, and downloads nothing."""


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "demo",
        run,
        summary="try a model in the browser",
        description=_DESCRIPTION,
        examples=["possam demo", "possam demo --model output/pretrained --device cuda --port 8080"],
    )
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="possam-mini", help="a shipped name, folder, published checkpoint "
                        "or hub repository "
                        "(default: possam-mini)")  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the model's own)")
    add_weights(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets other machines in "
                        "(default: 127.0.0.1)")  # fmt: skip
    parser.add_argument("--port", type=_port, metavar="N", help="(default: the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="also at a public address, through Gradio's servers")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535, got {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    from possam.demo.page import launch
    from possam.predict.predictor import Predictor

    predictor = Predictor.from_pretrained(
        arguments.model,
        device=arguments.device,
        weights=arguments.weights,
    )
    launch(predictor, name=arguments.model, host=arguments.host, port=arguments.port, share=arguments.share)
    return 0
