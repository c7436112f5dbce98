"""An evaluation as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from pathlib import Path

from possam.report.page import build_page
from possam.report.source import EvaluationFolder
from possam.utils.files import write_atomically
from possam.utils.output import guarded_output
from possam.vocabulary import Vocabulary

__all__ = ["EvaluationFolder", "build_page", "write_report"]


@guarded_output()
def write_report(
    folder: str | Path,
    *,
    dataset: str | None = None,
    train_vocabulary: Vocabulary | None = None,
    output: str | Path | None = None,
    images: int = 6,
    progress: bool = True,
) -> Path:
    """Write the report of an evaluation: scores, classes, confusions, best and worst images, calibration, settings.

    The page needs no other file. Its links to images, annotations and predictions are relative to where it is written.

    Args:
        folder: OUTPUT_DIR/evaluation/<dataset>, as an evaluation left it.
        dataset: its registered name; by default what results.json says, or the folder's name.
        train_vocabulary: what the model was trained on, to tell seen from unseen classes; by default what the
            evaluation's configuration says.
        output: the page; by default report.html in the folder.
        images: how many of the best and of the worst to show.
        progress: whether to show a bar.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError, ValueError: the folder is none of an evaluation, or its files and the dataset do not fit.
    """
    source = EvaluationFolder(folder, dataset=dataset, train_vocabulary=train_vocabulary)
    path = Path(output) if output is not None else source.folder / "report.html"
    page = build_page(source, folder=path.parent, images=images, progress=progress).encode("utf-8")
    write_atomically(path, lambda file: file.write(page))
    return path
