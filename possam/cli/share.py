"""`possam share`: a trainer's checkpoint as a folder for `from_pretrained`, and on the Hugging Face hub if asked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from possam.cli.parsing import add_configurations, add_parser, path_option, read_configurations
from possam.utils.files import read_json

if TYPE_CHECKING:
    from possam.cli.parsing import Commands
    from possam.d2.config import CfgNode

__all__ = ["add_arguments", "add_command", "run", "share"]

_DESCRIPTION = """\
Make a folder for `from_pretrained` (and --model) of a trainer's checkpoint: configuration, trained parameters, training
vocabulary and a README; and upload it to the Hugging Face hub if asked. It works on the CPU, whatever device the
configuration names, and needs the frozen encoders' weights, but no images."""
_ON_THE_CPU = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"]
_DTYPES = ("float32", "float16", "bfloat16")


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "share",
        run,
        summary="make a folder, or a repository of the hub, of a trained model",
        description=_DESCRIPTION,
        examples=[
            "possam share output/mini/config.yaml --weights output/mini/model_final.pth --output exported/mini "
            "--results output/mini/evaluation/results.json",
            "possam share output/vit_b/config.yaml --weights output/vit_b/model_final.pth --output exported/vit_b "
            "--dtype float16 --license apache-2.0 --push-to-hub someone/possam-vit-b --private",
        ],
    )
    add_configurations(parser, "config.yaml beside the checkpoint")
    parser.add_argument("--weights", required=True, metavar="PATH", help="the checkpoint: model_final.pth")
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tools/export_pretrained.py has, too."""
    parser.add_argument("--output", required=True, type=path_option, metavar="DIR", help="folder to write")
    text = "of the parameters in the file (default: float32)"
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help=text)
    parser.add_argument("--results", action="append", type=path_option, default=[], metavar="PATH",
                        help="a results.json for the README (repeatable)")  # fmt: skip
    parser.add_argument("--license", default="", metavar="ID", help="for the README, as the hub calls it: apache-2.0")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="repository of the hub to upload to, too")
    parser.add_argument("--private", action="store_true", help="make a new repository of the hub private")


def run(arguments: argparse.Namespace) -> int:
    files, overrides = read_configurations(arguments)
    return share(arguments, files, [*overrides, "MODEL.WEIGHTS", arguments.weights])


def share(arguments: argparse.Namespace, files: Sequence[str], overrides: Sequence[str]) -> int:
    """Write the folder, and upload it.

    Args:
        arguments: those of `add_arguments`.
        files: configurations of the training, a later one over those before it.
        overrides: `KEY VALUE` pairs; MODEL.WEIGHTS names the checkpoint.

    Raises:
        FileNotFoundError, ValueError: the configuration, the checkpoint or the results cannot be used.
    """
    import torch

    from possam.d2.utils import setup_logger
    from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets

    setup_logger(name="possam")
    cfg = load_config(files, [*overrides, *_ON_THE_CPU])
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("There are no trained parameters to export; add `MODEL.WEIGHTS <path to model_final.pth>`.")
    prepare_datasets(cfg)
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    what: dict[str, Any] = {
        "cfg": _as_written(files, overrides),
        "dtype": getattr(torch, arguments.dtype),
        "results": _read_results(arguments.results),
        "license": arguments.license,
    }
    folder = model.save_pretrained(arguments.output, **what)
    print(f"Written to {folder}:", *sorted(path.name for path in folder.iterdir()))
    if arguments.push_to_hub:
        print("Uploaded to", model.push_to_hub(arguments.push_to_hub, private=arguments.private or None, **what))
    return 0


def _as_written(files: Sequence[str], overrides: Sequence[str]) -> CfgNode:
    """A valid configuration without this machine's changes: the exported model is to run on another."""
    import possam.models  # noqa: F401  # registers the systems' keys
    from possam.config import load

    return load(files, overrides)


def _read_results(paths: Sequence[Path]) -> dict[str, Any]:
    """Headline metrics by dataset, from the results.json of one dataset each or of a whole run."""
    from possam.evaluation import headline_metrics

    results: dict[str, Any] = {}
    for path in paths:
        content = read_json(path)
        results |= content.get("datasets") or {content.get("dataset", {}).get("name", path.parent.name): content}
    return {dataset: headline_metrics(content) for dataset, content in results.items()}
