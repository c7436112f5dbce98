"""Write the report of an evaluation as one page of HTML. The same as `possam report`.

Examples:
    python tools/report.py --evaluation output/demo/evaluation/mini_b_report
    python tools/report.py --evaluation output/demo/evaluation/mini_b_report --dataset mini_b_report --images 10
"""

from __future__ import annotations

import argparse
import sys

from possam.cli.parsing import path_option
from possam.cli.report import add_arguments, run
from possam.utils.output import run_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "folder OUTPUT_DIR/evaluation/<dataset> that an evaluation wrote"
    parser.add_argument("--evaluation", type=path_option, required=True, metavar="FOLDER", help=text)
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    try:
        sys.exit(run_command(main))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
