"""`possam configs`: check configurations, and list their settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from possam.cli.parsing import add_group, add_parser, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command"]

_VERIFY = """\
Build every configuration's model, without memory for its weights, and look up its datasets and classes: misspelt
keys, sizes that do not fit and unknown names come out in seconds, not after hours in a queue. Neither data nor weights
need to be there. A file of a test set, which has DATASETS and TEST alone, is merged over that of a model."""

_KEYS = """\
Every key of a configuration with its default, what it is, and the values it may have. Keys of Detectron2 that are not
among them can be set, but nothing reads them."""

_MODEL = "configs/coco/possam_vit_b.yaml"


def add_command(commands: Commands) -> None:
    configs = add_group(
        commands,
        "configs",
        summary="verify configurations, and list their keys",
        examples=["possam configs verify", "possam configs keys"],
    )
    parser = add_parser(
        configs,
        "verify",
        run_verify,
        summary="check that configurations can be run",
        description=_VERIFY,
        examples=[
            "possam configs verify",
            "possam configs verify configs/coco/possam_vit_b.yaml",
            "possam configs verify configs/mini",
            "possam configs verify configs/eval --model configs/coco/possam_vit_h.yaml",
        ],
    )
    text = "YAML files, or folders of them (default: all of the package)"
    parser.add_argument("paths", nargs="*", type=path_option, metavar="CONFIG", help=text)
    text = f"configuration of the model that test sets are verified with (default: {_MODEL})"
    parser.add_argument("--model", type=path_option, default=Path(_MODEL), metavar="CONFIG", help=text)

    parser = add_parser(
        configs,
        "keys",
        run_keys,
        summary="list what can be set",
        description=_KEYS,
        examples=["possam configs keys"],
    )
    text = "the system, a MODEL.META_ARCHITECTURE (default: that of a configuration without one)"
    parser.add_argument("--architecture", default="", metavar="NAME", help=text)


def run_keys(arguments: argparse.Namespace) -> int:
    import possam.models  # noqa: F401  # the systems register their keys
    from possam.config import default_config, keys_of
    from possam.config.key import value_of

    cfg = default_config(arguments.architecture)
    for key in keys_of(cfg.MODEL.META_ARCHITECTURE).values():
        ranges = "; ".join(check.wanted.replace(", {}", "") for check in key.checks)
        print(f"{key.name} {value_of(cfg, key.name)!r}\n    {key.help}{f' ({ranges})' if ranges else ''}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    from possam.config import find_config
    from possam.engine.verify import find_configs, is_test_set, verify_config

    paths = [
        found
        for path in arguments.paths or [Path("configs")]
        for found in ([find_config(path)] if path.suffix in (".yaml", ".yml") else find_configs(path))
    ]
    if not paths:
        raise ValueError(f"there is no configuration that can be run in {', '.join(map(str, arguments.paths))}.")
    failed = 0
    for path in paths:
        try:
            print(verify_config([arguments.model, path] if is_test_set(path) else path), flush=True)
        except (ValueError, FileNotFoundError) as error:
            # One wrong configuration does not hide what the others are.
            print(f"{path}: error: {error}", file=sys.stderr, flush=True)
            failed += 1
    if failed:
        print(f"{failed} of {len(paths)} configurations cannot be run", file=sys.stderr)
    elif len(paths) > 1:
        print(f"all {len(paths)} configurations can be run")
    return int(failed > 0)
