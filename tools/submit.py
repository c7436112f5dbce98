"""Submit a training run to Slurm. Preempted or out of time, it saves, is requeued and resumes.

Every GPU has its process, which Slurm starts; the run's settings are those of tools/train_net.py. Or submit
`possam segment`, whose processes share the files: give the words of that command in place of a configuration.
Trainings can be submitted with `possam submit`, too.

Examples:
    python tools/submit.py --config-file configs/coco/possam_vit_b.yaml --partition gpu --gpus-per-node 8 \\
        --hours 24 OUTPUT_DIR output/vit_b
    python tools/submit.py --config-file configs/coco/possam_vit_h.yaml --nodes 4 --gpus-per-node 8 --resume \\
        --slurm account=vision --slurm qos=high OUTPUT_DIR output/vit_h
    python tools/submit.py --partition gpu --nodes 2 --gpus-per-node 8 --hours 4 \\
        segment /shared/photos --classes ade20k_150 --model me/model --output /shared/results
"""

from __future__ import annotations

import argparse
import sys

from possam.cli.submit import add_arguments, submit
from possam.utils.output import run_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "configuration of the run; may be repeated: a later file holds over those before it"
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help=text)
    add_arguments(parser)
    text = "settings that replace the configuration's; or without one, segment and the words of that command"
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help=text)
    return parser


def main() -> None:
    try:
        job = submit(build_parser().parse_args())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"Job {job.job_id}: {job.paths.stdout}")


if __name__ == "__main__":
    sys.exit(run_command(main))
