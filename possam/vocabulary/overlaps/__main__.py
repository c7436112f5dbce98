"""Write the overlaps of the overlap rule: ``python -m possam.vocabulary.overlaps``.

One whose content changes gets the next version; the others are left as they are.
"""

import sys
from dataclasses import replace

from possam.utils.output import run_command
from possam.vocabulary import Vocabulary, table_names
from possam.vocabulary.overlaps import OVERLAP_RULE, Overlap, divide, find_overlap, write_overlap

TRAINING_TABLES = ("coco_panoptic", "ade20k_150")


def computed_overlaps() -> list[Overlap]:
    """Every training table against every other table, computed from the tables; all of version 1.

    The miniature world's tables are left out: there the same drawing goes by other names, so theirs follows
    another rule.
    """
    tests = [Vocabulary.load(name) for name in table_names() if not name.startswith("mini_")]
    trains = [Vocabulary.load(name) for name in TRAINING_TABLES]
    return [
        divide(train, test, test.exact_overlap(train), rule=OVERLAP_RULE)
        for train in trains
        for test in tests
        if test.name != train.name
    ]


def main() -> None:
    """Write what has changed and say so, a line an overlap."""
    for overlap in computed_overlaps():
        old = find_overlap(overlap.train, overlap.test)
        if old is not None and replace(overlap, version=old.version) == old:
            continue
        new = replace(overlap, version=1 if old is None else old.version + 1)
        path = write_overlap(new)
        print(f"{path.name}: version {new.version}, {len(new.seen)} seen, {len(new.unseen)} unseen")


if __name__ == "__main__":
    sys.exit(run_command(main))
