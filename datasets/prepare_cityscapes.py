"""Cityscapes' label maps of train ids and its panoptic annotation.

    python datasets/prepare_cityscapes.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare cityscapes`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "cityscapes", *sys.argv[1:]]))
