"""ADE20K's panoptic annotation.

    python datasets/prepare_ade20k_panoptic.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare ade20k_panoptic`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "ade20k_panoptic", *sys.argv[1:]]))
