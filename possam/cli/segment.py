"""`possam segment`: pictures and videos in, overlays and COCO panoptic files out."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

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
Instead of words, the name of a dataset's list (ade20k_150) or a vocabulary's JSON file can be given.

With a model that takes prompts, points and boxes say what to segment in one picture, in its pixels from the upper left.
All --point are of one object: "X,Y" is on it, and "X,Y:-" is not. Every --box is an object of its own; one --box with
points is of their object. --everything takes a grid of points, and drops masks that are poor or repeated. The masks are
then written, with their five most probable names, to DIR/instances.json; without --classes these are the names of the
model's training.

With --hierarchy TREE.json segments are named level by level, thing → animal → cat, from a tree of names: nested objects
{"thing": {"animal": {"cat": {}, "dog": {}}}, "sky: stuff": {}}. A segment gets the deepest name that is sure, and its
path with the probability of each level is in panoptic.json."""


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
            'possam segment photo.jpg --hierarchy tree.json --stop-below 0.5 --model me/model --output results',
            'possam segment "photos/*.jpg" clip.mp4 --every 10 --classes ade20k_150 --model me/model --output results',
            "possam segment --sample --point 57,57 --model possam-mini-prompt --output output/sample",
            "possam segment photo.jpg --point 120,80 --point 300,40:- --model MODEL --output results",
            "possam segment photo.jpg --box 10,10,90,200 --box 95,20,140,180 --model MODEL --output results",
            "possam segment photos --everything --classes lvis --model MODEL --output results",
        ],
    )
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="files, folders, patterns, videos")
    parser.add_argument("--sample", action="store_true", help="the package's own scene, with its own words by default")
    parser.add_argument("--classes", metavar="WORDS", help="what to look for")
    parser.add_argument("--hierarchy", type=full_path, metavar="PATH", help="a tree of names in JSON; with --classes, "
                        "its leaves have to be these classes")  # fmt: skip
    parser.add_argument("--stop-below", type=float, default=0.0, metavar="P", help="of a tree: name a segment only as "
                        "deep as the best name has this probability (default: 0, down to the leaves)")  # fmt: skip
    parser.add_argument("--output", type=full_path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--model", default="possam-mini", help="a shipped name, folder, published checkpoint "
                        "or hub repository "
                        "(default: possam-mini, which knows only the words of its drawn world)")  # fmt: skip
    parser.add_argument(
        "--ensemble", metavar="NAME", help="combination of the trained classifier and CLIP (default: the model's own)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the model's own)")
    add_weights(parser)
    parser.add_argument("--point", action="append", default=[], metavar="X,Y[:-]", help="a point on the object, or "
                        "with :- outside it; several are of one object")  # fmt: skip
    parser.add_argument("--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="a box around an object; "
                        "several are several objects")  # fmt: skip
    parser.add_argument("--everything", action="store_true", help="all objects, from a grid of points")
    parser.add_argument("--grid", type=int, metavar="N", help="points of --everything along each side (default: 32)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th frame of videos (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    prompted = bool(arguments.point or arguments.box or arguments.everything)
    if not arguments.images and not arguments.sample:
        raise ValueError("no image was given; name files, folders or patterns, or try --sample.")
    if prompted and arguments.hierarchy:
        raise ValueError("--hierarchy names the segments of whole pictures; with prompts, give --classes instead.")
    if not arguments.classes and (
        arguments.classes is not None or not (arguments.sample or prompted or arguments.hierarchy)
    ):
        raise ValueError('no class was given; say what to look for, such as --classes "cat, dog, grass".')
    if arguments.stop_below and not arguments.hierarchy:
        raise ValueError("--stop-below is for a tree of names, but none was given; add --hierarchy TREE.json.")
    if arguments.every < 1:
        raise ValueError(f"--every is {arguments.every}, but must be at least 1.")
    if arguments.grid is not None and not arguments.everything:
        raise ValueError("--grid is the grid of --everything; give both, or leave out --grid.")
    prompting = _prompting(arguments) if prompted else {}
    from possam.cli.output import progress_bar
    from possam.frames import find_sources
    from possam.predictor import Names, Predictor
    from possam.segmenting import prompt_files, segment_files
    from possam.shipped import SAMPLE, SAMPLE_WORDS
    from possam.vocabulary import Hierarchy
    from possam.vocabulary.words import read_line

    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output {arguments.output} is a file; give a folder.")
    words = arguments.classes or (SAMPLE_WORDS if arguments.sample else "")
    classes = read_line(words) if words else None
    names: Names | None = classes
    if arguments.hierarchy:
        names = tree = Hierarchy.from_file(arguments.hierarchy, stop_below=arguments.stop_below)
        if arguments.classes and classes:
            tree.check_leaves(classes)
    sources = find_sources([*arguments.images, *([SAMPLE] if arguments.sample else [])])
    predictor = Predictor.from_pretrained(
        arguments.model,
        device=arguments.device,
        weights=arguments.weights,
    )
    if names is not None:
        with progress_bar("embedding names") as progress:
            predictor.check(names, arguments.ensemble, progress)
    with progress_bar("segmenting") as progress:
        common: dict[str, Any] = {"ensemble": arguments.ensemble, "every": arguments.every, "progress": progress}
        if prompted:
            outcome = prompt_files(predictor, sources, classes, arguments.output, **prompting, **common)
        else:
            assert names is not None
            outcome = segment_files(predictor, sources, names, arguments.output, **common)
    if outcome.images:
        count = "1 image" if outcome.images == 1 else f"{outcome.images} images"
        print(f"{count}; overlays and predictions are in {arguments.output}")
    for path, reason in outcome.failures.items():
        print(f"error: {path}: {reason}" if path not in reason else f"error: {reason}", file=sys.stderr)
    return int(bool(outcome.failures))


def _prompting(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `prompt_files` from --point, --box, --everything and --grid. Raises ValueError for a mistake."""
    from possam.prompting import EverythingOptions, parse_prompts

    if arguments.everything:
        if arguments.point or arguments.box:
            raise ValueError("--everything takes a grid of points; leave out --point and --box, or --everything.")
        return {"options": EverythingOptions() if arguments.grid is None else EverythingOptions(side=arguments.grid)}
    if arguments.point and len(arguments.box) > 1:
        raise ValueError(
            f"all --point are of one object, but {len(arguments.box)} --box are as many objects; give one --box with "
            "points, or run the command for each object."
        )
    points = [_point(text) for text in arguments.point]
    boxes = [_numbers(text, 4, "--box", "X0,Y0,X1,Y1 such as 10,10,90,200") for text in arguments.box]
    prompts = parse_prompts(
        [place for place, _ in points] if points else None,
        [label for _, label in points] if points else None,
        boxes or None,
    )
    return {"prompts": prompts}


def _point(text: str) -> tuple[list[float], int]:
    """Read "X,Y", "X,Y:+" or "X,Y:-"."""
    place, _, sign = text.partition(":")
    if sign not in ("", "+", "-"):
        raise ValueError(f"--point is {text!r}, but after the colon comes + (on the object) or - (outside it).")
    wanted = "X,Y in pixels such as 120,80, or 120,80:- for a point outside the object"
    return _numbers(place, 2, "--point", wanted), 0 if sign == "-" else 1


def _numbers(text: str, count: int, option: str, wanted: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(f"{option} is {text!r}, but must be {wanted}.")
    return numbers
