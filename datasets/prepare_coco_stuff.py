"""Label maps of COCO-Stuff's 171 contiguous classes.

    python datasets/prepare_coco_stuff.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare coco_stuff`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "coco_stuff", *sys.argv[1:]]))
