"""Images and label maps of Pascal Context's 459 classes.

    python datasets/prepare_pascal_context_459.py [--root FOLDER] [--splits train val] [--processes N] [--overwrite]

The same as `possam data prepare pascal_context_459`; datasets/README.md says what must be there first.
"""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "pascal_context_459", *sys.argv[1:]]))
