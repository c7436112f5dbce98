"""Label maps of ADE20K's 150 contiguous classes.

    python datasets/prepare_ade20k_semantic.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare ade20k_semantic`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "ade20k_semantic", *sys.argv[1:]]))
