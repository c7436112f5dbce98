"""Images and label maps of Pascal VOC 2012, with background and without.

    python datasets/prepare_pascal_voc.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare pascal_voc`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "pascal_voc", *sys.argv[1:]]))
