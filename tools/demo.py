"""Try a model in the browser: give a picture, say what to look for, click a segment. The same as `possam demo`.

Examples:
    python tools/demo.py
    python tools/demo.py --model output/pretrained --device cuda --port 8080
"""

from __future__ import annotations

import argparse
import sys

from possam.cli.demo import add_arguments, run
from possam.utils.output import run_command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    try:
        sys.exit(run_command(run, parser.parse_args()))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
