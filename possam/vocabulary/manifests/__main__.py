"""Write the manifests of the overlap rule: ``python -m possam.vocabulary.manifests``.

One whose content changes gets the next version; the others are left as they are.
"""

import sys
from dataclasses import replace

from possam.utils.output import run_command
from possam.vocabulary import Vocabulary, table_names
from possam.vocabulary.manifests import OVERLAP_RULE, Manifest, divide, find_manifest, write_manifest

TRAINING_TABLES = ("coco_panoptic", "ade20k_150")


def overlap_manifests() -> list[Manifest]:
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
    """Write what has changed and say so, a line a manifest."""
    for manifest in overlap_manifests():
        old = find_manifest(manifest.train, manifest.test)
        if old is not None and replace(manifest, version=old.version) == old:
            continue
        new = replace(manifest, version=1 if old is None else old.version + 1)
        path = write_manifest(new)
        print(f"{path.name}: version {new.version}, {len(new.seen)} seen, {len(new.unseen)} unseen")


if __name__ == "__main__":
    sys.exit(run_command(main))
