"""`possam info`: versions, devices, models, weights and datasets, also for bug reports."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from possam.cli.parsing import add_parser, add_root, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "info",
        run,
        summary="show versions, devices, models, weights and datasets that are there",
        examples=["possam info", "possam info --json"],
    )
    add_root(parser)
    parser.add_argument("--folder", type=path_option, default=Path("weights"), metavar="DIR", help="(default: weights)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    found = _found(arguments)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    from possam.cli.output import console, table

    rows = [[name, version or "not installed"] for name, version in found["versions"].items()]
    rows += [[name, ", ".join(value) or "none"] for name, value in found.items() if isinstance(value, list)]
    rows += [[name, value] for name, value in found.items() if isinstance(value, str)]
    console().print(table(["what", "there is"], rows))
    return 0


def _found(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from possam.data.datasets import SPECS
    from possam.data.doctor import is_there
    from possam.data.root import datasets_root
    from possam.encoders.downloads import WEIGHTS
    from possam.engine.provenance import versions
    from possam.shipped import shipped_names

    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "system": platform.platform(),
        "devices": [f"cpu ({torch.get_num_threads()} threads)", *cuda],
        "shipped models": shipped_names(),
        "weights": [weights.name for weights in WEIGHTS.values() if (arguments.folder / weights.filename).is_file()],
        "datasets": [name for name, spec in SPECS.items() if is_there(spec, arguments.root) == "yes"],
        "datasets' root": str(datasets_root(arguments.root).absolute()),
    }
