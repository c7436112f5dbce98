"""`possam demo`: serve the demo's page."""

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
knows only drawings, and downloads nothing.

With a model that takes prompts, objects are clicked or drawn a box around. Beside a model for whole pictures, clicks
and boxes refine its segments by --prompt-model."""


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "demo",
        run,
        summary="try a model in the browser",
        description=_DESCRIPTION,
        examples=[
            "possam demo",
            "possam demo --model output/pretrained --device cuda --port 8080",
            "possam demo --model output/pretrained --prompt-model MODEL",
        ],
    )
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="possam-mini", help="a shipped name, folder, published checkpoint "
                        "or hub repository "
                        "(default: possam-mini)")  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the model's own)")
    add_weights(parser)
    parser.add_argument("--prompt-model", metavar="MODEL", help="a model that takes prompts, to refine the segments")
    add_weights(parser, "--prompt-weights")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets other machines in "
                        "(default: 127.0.0.1)")  # fmt: skip
    parser.add_argument("--port", type=_port, metavar="N", help="(default: the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="also at a public address, through Gradio's servers")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535, got {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.prompt_weights and not arguments.prompt_model:
        raise ValueError("--prompt-weights is for the model of --prompt-model, but none is given; add it.")
    from possam.demo.page import launch
    from possam.predict.predictor import Predictor

    predictor = Predictor.from_pretrained(arguments.model, device=arguments.device, weights=arguments.weights)
    prompter = None
    if arguments.prompt_model:
        options = {"device": arguments.device, "weights": arguments.prompt_weights}
        prompter = Predictor.from_pretrained(arguments.prompt_model, **options)
    launch(
        predictor,
        name=arguments.model,
        prompter=prompter,
        prompter_name=arguments.prompt_model or "",
        host=arguments.host,
        port=arguments.port,
        share=arguments.share,
    )
    return 0
