"""Write the report of an evaluation as one page of HTML.

Examples:
    python tools/report.py --evaluation output/demo/evaluation/mini_b_report
    python tools/report.py --evaluation output/demo/evaluation/mini_b_report --dataset mini_b_report --images 10
"""

from __future__ import annotations

import argparse
import sys

from possam.utils.files import full_path
from possam.utils.output import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--evaluation",
        type=full_path,
        required=True,
        help="folder OUTPUT_DIR/evaluation/<dataset> that an evaluation wrote",
    )
    parser.add_argument("--dataset", help="its registered name; by default what the evaluation says")
    parser.add_argument("--output", type=full_path, help="the page; by default report.html in that folder")
    parser.add_argument("--images", type=int, default=6, help="how many of the best and of the worst images to show")
    args = parser.parse_args()
    from possam.report import write_report

    print(write_report(args.evaluation, dataset=args.dataset, output=args.output, images=args.images))


if __name__ == "__main__":
    try:
        if code := run_command(main):
            sys.exit(code)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
