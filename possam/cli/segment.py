"""`possam segment`: pictures and videos in, overlays and COCO panoptic files out."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from possam.cli.parsing import add_parser, add_weights, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands

__all__ = ["add_command", "check_arguments"]

_DESCRIPTION = """\
Segment pictures and videos. For every image DIR/overlay/<name>.jpg shows the segments, and DIR/panoptic/<name>.png with
DIR/panoptic.json holds them in the COCO panoptic format. A file that cannot be read, or whose results cannot be
written, is passed over and listed at the end, as is a video with frames that do not decode; the exit code is then 1.
Of a video, DIR/video/<name>.mp4 shows the overlays one after the other. At the end, a line an image says what was
found: each name with its count, its share of the image and its best score.

Run again with the same DIR, the command does what is missing: files that failed, are new or have changed, or that were
left when it was stopped. DIR/journal.jsonl says what is done. Other words, another model or other options need another
DIR, or --overwrite. Under torchrun the processes share the files, each with a GPU of its own, if there is one; DIR must
be a folder that all see. On Slurm, use tools/submit.py of a clone.

Classes are separated by commas or lines, synonyms by |; "sky: stuff" says that something is not counted. Without a
mark, what COCO or ADE20K counts as stuff is stuff. Commas inside brackets, double quotes or numbers belong to a name.
Instead of words, the name of a dataset's list (ade20k_150) or a vocabulary's JSON file can be given.

With a model that takes prompts, points and boxes say what to segment in one picture, in its pixels from the upper left.
All --point are of one object: "X,Y" is on it, and "X,Y:-" is not. Every --box is an object of its own; one --box with
points is of their object. --everything takes a grid of points, and drops masks that are repeated or poor, by
--iou-threshold and --stability-threshold. The masks are then written, with their five most probable names, to
DIR/instances.json; without --classes these are the names of the model's training.

With --hierarchy TREE.json segments are named level by level, thing → animal → cat, from a tree of names: nested objects
{"thing": {"animal": {"cat": {}, "dog": {}}}, "sky: stuff": {}}. A segment gets the deepest name that is sure, and its
path with the probability of each level is in panoptic.json."""

_OF_EVERYTHING = {"grid": "side", "iou_threshold": "iou_threshold", "stability_threshold": "stability_threshold"}
"""Options of --everything alone, and the names of `EverythingOptions`."""


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
            "possam segment --sample --everything --grid 12 --iou-threshold 0.4 --stability-threshold 0.7 "
            "--model possam-mini-prompt --output output/everything",
            "possam segment photos --everything --classes lvis --model MODEL --output results",
            "torchrun --nproc-per-node 8 -m possam segment photos --classes lvis --model MODEL --output results",
        ],
    )
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="files, folders, patterns, videos, and http and "
                        "https addresses of images")  # fmt: skip
    parser.add_argument("--sample", action="store_true", help="the package's own scene; without --classes with its own "
                        "words, and --no-background, as they name everything in it")  # fmt: skip
    parser.add_argument("--classes", metavar="WORDS", help="what to look for")
    parser.add_argument("--hierarchy", type=path_option, metavar="PATH", help="a tree of names in JSON; with "
                        "--classes, its leaves have to be these classes")  # fmt: skip
    parser.add_argument("--stop-below", type=float, default=0.0, metavar="P", help="of a tree: name a segment only as "
                        "deep as the best name has this probability (default: 0, down to the leaves)")  # fmt: skip
    parser.add_argument("--output", type=path_option, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--model", default="possam-mini", help="a shipped name, folder, published checkpoint "
                        "or hub repository "
                        "(default: possam-mini, which reads drawings of its miniature world only)")  # fmt: skip
    parser.add_argument(
        "--ensemble", metavar="NAME", help="combination of the trained classifier and CLIP (default: the model's own)"
    )
    parser.add_argument("--threshold", type=float, metavar="P", help="keep masks with a score above this, in [0, 1] "
                        "(default: the model's own; with --everything 0)")  # fmt: skip
    parser.add_argument("--background", action=argparse.BooleanOptionalAction, default=None, help="whether the names "
                        "of the model's training compete beside --classes, so that what is not in a picture is not "
                        "found (default: for words; not for a list of classes, a tree or --everything)")  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the model's own)")
    add_weights(parser)
    _add_prompts(parser)
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print what was found as a JSON object a line")
    printed.add_argument("--quiet", action="store_true", help="print warnings and errors alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th frame of videos (default: 1)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images of a size that go through the "
                        "network together (default: 1); with more, scores differ by rounding")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads of each process that read, name "
                        "and write (default: 2); with 0 the process does one thing at a time")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="remove what an earlier run has left in DIR, and do "
                        "everything again")  # fmt: skip


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    """The options of models that take prompts."""
    parser.add_argument("--point", action="append", default=[], metavar="X,Y[:-]", help="a point on the object, or "
                        "with :- outside it; several are of one object")  # fmt: skip
    parser.add_argument("--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="a box around an object; "
                        "several are several objects")  # fmt: skip
    parser.add_argument("--everything", action="store_true", help="all objects, from a grid of points")
    parser.add_argument("--grid", type=int, metavar="N", help="points of --everything along each side (default: 32)")
    parser.add_argument("--iou-threshold", type=float, metavar="P", help="of --everything: least predicted IoU of a "
                        "mask, in [0, 1] (default: 0.88; the shipped model needs less, such as 0.4)")  # fmt: skip
    parser.add_argument("--stability-threshold", type=float, metavar="P", help="of --everything: least stability of a "
                        "mask, in [0, 1] (default: 0.95; the shipped model needs less, such as 0.7)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    prompting = check_arguments(arguments)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return _segment(arguments, prompting)
    from possam.engine import launch

    if arguments.device and ":" in arguments.device and os.environ["WORLD_SIZE"] != "1":
        raise ValueError(
            f"--device is {arguments.device}, but under torchrun each process takes the GPU of its number; give cuda "
            "or cpu, and choose the GPUs with CUDA_VISIBLE_DEVICES."
        )
    return int(launch.run(lambda _: _segment(arguments, prompting), arguments))


def check_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check what can be checked before a model is loaded. Returns the arguments of `prompt_files` for prompts, if any.

    Raises:
        ValueError: options contradict each other or are out of range.
    """
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
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}, but must be at least 1.")
    if arguments.batch_size > 1 and prompted:
        raise ValueError("--batch-size is for whole pictures; with prompts, leave it out: images go one by one.")
    if arguments.workers < 0:
        raise ValueError(f"--workers is {arguments.workers}, but must be at least 0.")
    for option in _OF_EVERYTHING:
        if getattr(arguments, option) is not None and not arguments.everything:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is an option of --everything; give both, or leave out --{name}.")
    if (arguments.point or arguments.box) and (arguments.threshold, arguments.background) != (None, None):
        raise ValueError("--point and --box always get a mask and a name; leave out --threshold and --background.")
    from possam.predict.background import check_options  # here: PyTorch takes seconds

    check_options(arguments.threshold, arguments.background)
    return _prompting(arguments) if prompted else {}


def _segment(arguments: argparse.Namespace, prompting: dict[str, Any]) -> int:
    """Segment, in each of the processes that share the files; the main process prints the outcome."""
    from possam.cli.found import leave_out_results, print_found, write_overlay_videos
    from possam.cli.output import progress_bar
    from possam.d2.utils import comm
    from possam.predict.batch import prompt_files, segment_files
    from possam.predict.predictor import Names, Predictor
    from possam.predict.sources import find_sources
    from possam.shipped import SAMPLE, SAMPLE_WORDS
    from possam.vocabulary import Hierarchy
    from possam.vocabulary.words import read_line

    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output {arguments.output} is a file; give a folder.")
    words = arguments.classes or (SAMPLE_WORDS if arguments.sample else "")
    classes = read_line(words) if words else None
    names: Names | None = classes
    background = arguments.background
    if background is None and arguments.sample and not (arguments.classes or arguments.hierarchy or prompting):
        background = False
    if arguments.hierarchy:
        names = tree = Hierarchy.from_file(arguments.hierarchy, stop_below=arguments.stop_below)
        if arguments.classes and classes:
            tree.check_leaves(classes)
    sources = find_sources([*arguments.images, *([SAMPLE] if arguments.sample else [])])
    sources = leave_out_results(sources, arguments.output)
    predictor = Predictor.from_pretrained(
        arguments.model,
        device=arguments.device,
        weights=arguments.weights,
    )
    asked = predictor.model.train_vocabulary
    if names is not None:
        with progress_bar("embedding names", quiet=arguments.quiet) as progress:
            asked = predictor.check(names, arguments.ensemble, progress)
    with progress_bar("segmenting", quiet=arguments.quiet) as progress:
        common: dict[str, Any] = {"ensemble": arguments.ensemble, "every": arguments.every, "progress": progress}
        common |= {"threshold": arguments.threshold, "background": background}
        common |= {"workers": arguments.workers, "overwrite": arguments.overwrite}
        if prompting:
            outcome = prompt_files(predictor, sources, classes, arguments.output, **prompting, **common)
        else:
            assert names is not None
            common["batch_size"] = arguments.batch_size
            outcome = segment_files(predictor, sources, names, arguments.output, **common)
    if comm.is_main_process():
        write_overlay_videos(outcome, sources, arguments.output, every=arguments.every)
        print_found(outcome, asked, arguments.output, as_json=arguments.json, quiet=arguments.quiet)
    return int(bool(outcome.failures))


def _prompting(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `prompt_files` from the options of prompts. Raises ValueError for a mistake."""
    from possam.predict.prompting import EverythingOptions, parse_prompts

    if arguments.everything:
        if arguments.point or arguments.box:
            raise ValueError("--everything takes a grid of points; leave out --point and --box, or --everything.")
        given = {name: getattr(arguments, option) for option, name in _OF_EVERYTHING.items()}
        return {"options": EverythingOptions(**{name: value for name, value in given.items() if value is not None})}
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
    if min(numbers) < 0:
        raise ValueError(f"{option} is {text!r}, outside the image, whose pixels count from 0,0 at the upper left.")
    return numbers
