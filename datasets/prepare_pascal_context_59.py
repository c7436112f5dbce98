"""Images and label maps of Pascal Context's 59 classes.

    python datasets/prepare_pascal_context_59.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare pascal_context_59`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "pascal_context_59", *sys.argv[1:]]))
