"""`python -m possam` is the command `possam`."""

import sys

from possam.cli import main

if __name__ == "__main__":
    sys.exit(main())
