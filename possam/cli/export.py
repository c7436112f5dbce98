"""`possam export`: a trained model as programs that run without this package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from possam.cli.parsing import add_parser, add_weights, path_option

if TYPE_CHECKING:
    from possam.cli.parsing import Commands
    from possam.export import Difference
    from possam.models import OpenVocabularySegmenter
    from possam.vocabulary import Vocabulary

__all__ = ["add_command"]

_DESCRIPTION = """\
Export a trained model. DIR gets three programs, encoder (image to features), decoder (features to masks) and scorer
(masks and text to scores), each for torch.export (.pt2) and ONNX (.onnx); classes.npz with the text embeddings of the
classes; and export.json, which says what goes into the programs and what comes out. Images must have the exported size;
their number and the classes are free: --only-classes writes the text embeddings of other classes, in seconds.

Each file is run once and compared with the model, unless --no-check is given. docs/export.md shows how to use them."""

# Far over what rounding explains, far under what a wrong operator gives.
_TOLERANCE = 1e-2


def add_command(commands: Commands) -> None:
    parser = add_parser(
        commands,
        "export",
        run,
        summary="export a trained model for PyTorch and ONNX runtimes",
        description=_DESCRIPTION,
        examples=[
            "possam export possam-mini --output output/export",
            "possam export me/model --output output/export --formats onnx --classes ade20k_150",
            'possam export me/model --output output/export --only-classes --classes "cat, sofa|couch, sky: stuff"',
        ],
    )
    parser.add_argument("model", metavar="MODEL", help="a shipped name, folder, published checkpoint or hub repository")
    parser.add_argument("--output", type=path_option, required=True, metavar="DIR", help="folder of the export")
    parser.add_argument("--formats", nargs="+", default=["pt2", "onnx"], metavar="FORMAT", help="(default: pt2 onnx)")
    parser.add_argument("--classes", metavar="WORDS", help="as of `possam segment` (default: those of the training)")
    parser.add_argument("--only-classes", action="store_true", help="write classes.npz alone")
    parser.add_argument("--image-size", type=int, metavar="N", help="side of the image (default: the model's own)")
    parser.add_argument("--no-check", action="store_true", help="do not compare the files with the model")
    add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    from possam.export import CLASSES, check_formats, export_classes, export_model
    from possam.models import OpenVocabularySegmenter
    from possam.shipped import pretrained_folder
    from possam.vocabulary.words import read_line

    formats = check_formats(arguments.formats)
    vocabulary = read_line(arguments.classes) if arguments.classes else None
    model = OpenVocabularySegmenter.from_pretrained(
        pretrained_folder(arguments.model),
        device="cpu",
        weights=arguments.weights,
    )
    classes = vocabulary or model.train_vocabulary
    if arguments.only_classes:
        path = export_classes(model, classes, arguments.output / CLASSES)
        print(f"the text embeddings of {len(classes)} classes are in {path}")
        return 0
    folder = export_model(model, arguments.output, formats=formats, vocabulary=classes, image_size=arguments.image_size)
    differences = [] if arguments.no_check else _compare(model, folder, classes)
    _print(folder, differences)
    wrong = [difference for difference in differences if not difference.relative <= _TOLERANCE]
    if wrong:
        raise ValueError(
            f"{', '.join(sorted({difference.file for difference in wrong}))} in {folder} give other results than the "
            "model: do not use them; another version of PyTorch or of onnxscript may export them rightly."
        )
    return 0


def _compare(model: OpenVocabularySegmenter, folder: Path, classes: Vocabulary) -> list[Difference]:
    """Compare on the package's sample scene, at the size of the export."""
    import numpy as np
    import torch
    from PIL import Image

    from possam.data.pictures import to_rgb
    from possam.export import DESCRIPTION, compare, vocabulary_arrays
    from possam.shipped import SAMPLE
    from possam.utils.files import read_json

    side = read_json(folder / DESCRIPTION)["image"]["size"]
    scene = np.array(Image.fromarray(to_rgb(SAMPLE)).resize((side, side)), dtype=np.float32)
    return compare(model, folder, torch.from_numpy(scene).permute(2, 0, 1)[None], vocabulary_arrays(model, classes))


def _print(folder: Path, differences: list[Difference]) -> None:
    from possam.cli.output import console, table
    from possam.export import DESCRIPTION
    from possam.utils.files import read_json

    largest: dict[str, float] = {}
    for difference in differences:
        largest[difference.file] = max(largest.get(difference.file, 0.0), difference.relative)
    rows = [
        [name, f"{(folder / name).stat().st_size / 1e6:,.1f}", f"{largest[name]:.0e}" if name in largest else ""]
        for name in [*read_json(folder / DESCRIPTION)["sha256"], DESCRIPTION]
    ]
    headings = ["FILE", "MB", "DIFFERENCE"]
    console().print(table(headings, rows, right=headings[1:]))
    print(f"the export is in {folder}" + ("; differences are relative to the model's own results" if largest else ""))
