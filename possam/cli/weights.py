"""`possam weights`: list, download and verify pre-trained weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from possam.cli.parsing import add_group, add_parser, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    weights = add_group(
        commands,
        "weights",
        summary="list, download and verify pre-trained weights",
        examples=["possam weights list", "possam weights download sam_vit_b"],
    )
    parser = add_parser(
        weights,
        "list",
        run_list,
        summary="list all weights and whether they are there",
        examples=["possam weights list", "possam weights list --folder /data/weights"],
    )
    _add_folder(parser)
    parser = add_parser(
        weights,
        "download",
        run_download,
        summary="download weights; one that was stopped goes on, and what arrives is verified",
        examples=["possam weights download sam_vit_b", "possam weights download sam_vit_h --folder /data/weights"],
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="weights, as `possam weights list` names them")
    _add_folder(parser)
    parser = add_parser(
        weights,
        "verify",
        run_verify,
        summary="check that files are the weights that they are called, whole and unchanged",
        examples=["possam weights verify weights/sam_vit_b_01ec64.pth", "possam weights verify fcclip_cocopan.pth"],
    )
    parser.add_argument("paths", nargs="+", type=path_option, metavar="PATH", help="weight files")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=path_option, default=Path("weights"), metavar="DIR", help="(default: weights)")


def run_list(arguments: argparse.Namespace) -> int:
    from possam.cli.output import console, table
    from possam.encoders.published_files import published_files
    from possam.encoders.weight_files import WEIGHTS

    rows = [
        [
            weights.name,
            f"{weights.size / 1e6:,.0f} MB" if weights.size else "",
            "yes" if _is_there(arguments.folder / weights.filename) else "no",
            weights.source,
        ]
        for weights in WEIGHTS.values()
    ]
    rows += [
        [file.name, "", "yes" if file.filename and _is_there(arguments.folder / file.filename) else "no", file.url]
        for file in published_files().values()
    ]
    out = console()
    out.print(table(["weights", "size", "there", "from"], rows, right=["size"]))
    out.print(f"\nin {arguments.folder.absolute()}; to fetch one: possam weights download NAME")
    out.print("fetch those of drive.google.com and huggingface.co/spaces in a browser, and give one as --model FILE")
    return 0


def _is_there(path: Path) -> bool:
    # A repository without safetensors gives the older format under the same name.
    return path.is_file() or path.with_suffix(".bin").is_file()


def run_download(arguments: argparse.Namespace) -> int:
    from possam.encoders.downloads import download
    from possam.encoders.published_files import published_files
    from possam.encoders.weight_files import WEIGHTS
    from possam.utils.messages import did_you_mean

    names, published = dict.fromkeys(arguments.names), published_files()
    valid = [*WEIGHTS, *(name for name, file in published.items() if file.repo)]
    for name in names:
        if name not in WEIGHTS and name not in published:
            raise ValueError(f"unknown weights {name!r}.{did_you_mean(name, valid)} Valid names: {', '.join(valid)}.")
        if name in published and not published[name].repo:
            file = published[name]
            raise ValueError(
                f"{name} cannot be downloaded by a program. Fetch it in a browser from {file.url}, check it with "
                f"`possam weights verify {file.filename or 'FILE'}` (no checksum of it is published), and give it as "
                "--model FILE or MODEL.WEIGHTS FILE."
            )
    for name in names:
        if name in published:
            from possam.models.converters import download_published

            print(download_published(published[name], arguments.folder))
            print(f"{name}: {published[name].note}", file=sys.stderr)
        else:
            print(download(name, arguments.folder))
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    failed = False
    for path in arguments.paths:
        try:
            print(_verify(path))
        except (ValueError, FileNotFoundError) as error:
            # One wrong file does not hide what the others are.
            print(f"error: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _verify(path: Path) -> str:
    from possam.encoders.downloads import verify
    from possam.encoders.weight_files import known_file
    from possam.models.converters import check_published

    try:
        return verify(path)
    except ValueError:
        if known_file(path) or path.suffix not in (".pth", ".pt", ".bin", ".safetensors"):
            raise
    return check_published(path)
