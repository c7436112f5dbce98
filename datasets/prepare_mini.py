"""Draws the miniature world's data set: a training and a test split of vocabulary A, two test splits of vocabulary B,
and one of images of B with class labels.

    python datasets/prepare_mini.py

writes `<root>/mini/{mini_a_train,mini_b_selection,mini_b_report,mini_b_labels,mini_a_report}` in the COCO panoptic
format. What is there already is left alone, so it may be run before every training. `--splits mini_a_train_large` draws
the larger training split of vocabulary A.
"""

from __future__ import annotations

import argparse
import sys

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from possam.data.miniature.export import export_split
from possam.data.miniature.splits import SPLITS
from possam.data.preparation.mini import MINI
from possam.data.root import datasets_root
from possam.utils.output import run_command


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of the datasets (default: $DETECTRON2_DATASETS or datasets)")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=MINI.splits, metavar="NAME")
    parser.add_argument("--processes", type=int, default=1, help="worker processes")
    for name, split in SPLITS.items():
        option = "--" + name.removeprefix("mini_").replace("_", "-")
        parser.add_argument(
            option,
            type=int,
            dest=name,
            metavar="N",
            help=f"scenes of {name} (default {split.scenes})",
        )
    args = parser.parse_args(argv)
    for name in SPLITS:
        if getattr(args, name) is not None and name not in args.splits:
            parser.error(f"a number of scenes is given for {name}, which is not among --splits {' '.join(args.splits)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    cv2.setNumThreads(1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for name in args.splits:
            given = getattr(args, name)
            count = SPLITS[name].scenes if given is None else given
            task = progress.add_task(name, total=count)

            def advance(done: int, total: int, task=task) -> None:
                progress.update(task, completed=done)

            try:
                drawn = export_split(
                    name, root=args.root, scenes=count, processes=args.processes, progress=advance
                )
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            if not drawn:
                progress.update(task, completed=count, description=f"{name} (there already)")
    print(f"The miniature world is in {datasets_root(args.root) / 'mini'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
