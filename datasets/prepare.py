"""Prepare datasets: make the files that their official archives do not have.

    python datasets/prepare.py NAME ... [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
