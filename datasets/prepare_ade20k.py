"""All that is prepared of ADE20K-150: label maps, panoptic and instance annotations.

    python datasets/prepare_ade20k.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare ade20k`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "ade20k", *sys.argv[1:]]))
