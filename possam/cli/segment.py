"""`possam segment`: pictures and videos in, overlays and COCO panoptic files out."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from possam.cli.parsing import add_parser, add_weights
from possam.files import full_path

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command"]

_DESCRIPTION = """\
Segment pictures and videos. For every image DIR/overlay/<name>.jpg shows the segments, and DIR/panoptic/<name>.png with
DIR/panoptic.json holds them in the COCO panoptic format. A file that cannot be read, or whose results cannot be
written, is passed over and listed at the end, as is a video with frames that do not decode; the exit code is then 1.

Classes are separated by commas or lines, synonyms by |; "sky: stuff" says that something is not counted. Without a
mark, what COCO or ADE20K counts as stuff is stuff. Commas inside brackets, double quotes or numbers belong to a name.
Instead of words, the name of a dataset's list (ade20k_150) or a vocabulary's JSON file can be given."""


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "segment",
        run,
        summary="segment pictures and videos with any words",
        description=_DESCRIPTION,
        examples=[
            'possam segment --sample --output output/sample',
            'possam segment photo.jpg --classes "cat, sofa|couch, floor" --model output/pretrained --output results',
            'possam segment "photos/*.jpg" clip.mp4 --every 10 --classes ade20k_150 --model me/model --output results',
        ],
    )
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="files, folders, patterns, videos")
    parser.add_argument("--sample", action="store_true", help="the package's own scene, with its own words by default")
    parser.add_argument("--classes", metavar="WORDS", help="what to look for")
    parser.add_argument("--output", type=full_path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--model", default="possam-mini", help="a shipped name, folder, published checkpoint "
                        "or hub repository "
                        "(default: possam-mini, which knows only the words of its drawn world)")  # fmt: skip
    parser.add_argument(
        "--ensemble", metavar="NAME", help="combination of the trained classifier and CLIP (default: the model's own)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the model's own)")
    add_weights(parser)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th frame of videos (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.images and not arguments.sample:
        raise ValueError("no image was given; name files, folders or patterns, or try --sample.")
    if not arguments.classes and (arguments.classes is not None or not arguments.sample):
        raise ValueError('no class was given; say what to look for, such as --classes "cat, dog, grass".')
    if arguments.every < 1:
        raise ValueError(f"--every is {arguments.every}, but must be at least 1.")
    from possam.cli.output import progress_bar
    from possam.frames import find_sources
    from possam.predictor import Predictor
    from possam.segmenting import segment_files
    from possam.shipped import SAMPLE, SAMPLE_WORDS
    from possam.vocabulary.words import read_line

    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output {arguments.output} is a file; give a folder.")
    vocabulary = read_line(arguments.classes or SAMPLE_WORDS)
    sources = find_sources([*arguments.images, *([SAMPLE] if arguments.sample else [])])
    predictor = Predictor.from_pretrained(
        arguments.model,
        device=arguments.device,
        weights=arguments.weights,
    )
    with progress_bar("segmenting") as progress:
        outcome = segment_files(
            predictor,
            sources,
            vocabulary,
            arguments.output,
            ensemble=arguments.ensemble,
            every=arguments.every,
            progress=progress,
        )
    if outcome.images:
        count = "1 image" if outcome.images == 1 else f"{outcome.images} images"
        print(f"{count}; overlays and predictions are in {arguments.output}")
    for path, reason in outcome.failures.items():
        print(f"error: {path}: {reason}" if path not in reason else f"error: {reason}", file=sys.stderr)
    return int(bool(outcome.failures))
