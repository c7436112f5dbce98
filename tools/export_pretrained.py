"""Make a folder for `from_pretrained` of a trainer's checkpoint, and upload it to the Hugging Face hub if asked.

Works on the CPU, whatever device the configuration names, and needs the frozen encoders' weights, but no images. The
same as `possam share`.

Examples:
    python tools/export_pretrained.py --config-file output/mini/config.yaml --output exported/mini \\
        --results output/mini/evaluation/results.json MODEL.WEIGHTS output/mini/model_final.pth
    python tools/export_pretrained.py --config-file output/vit_b/config.yaml --output exported/vit_b \\
        --dtype float16 --push-to-hub someone/possam-vit-b --private MODEL.WEIGHTS output/vit_b/model_final.pth
"""

from __future__ import annotations

import argparse
import sys

from possam.cli.share import add_arguments, share
from possam.utils.output import run_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "config.yaml beside the checkpoint; may be repeated: a later file holds over those before it"
    parser.add_argument("--config-file", action="append", required=True, metavar="FILE", help=text)
    add_arguments(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs; MODEL.WEIGHTS names the checkpoint")
    args = parser.parse_args()
    return share(args, args.config_file, args.opts)


if __name__ == "__main__":
    try:
        if code := run_command(main):
            sys.exit(code)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
