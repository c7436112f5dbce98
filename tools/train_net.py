"""Train and evaluate a model from a configuration.

Examples:
    python tools/train_net.py --config-file configs/mini/possam.yaml
    python tools/train_net.py --config-file configs/coco/possam_vit_b.yaml --num-gpus 8 OUTPUT_DIR output/vit_b
    torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/coco/possam_vit_b.yaml
    python tools/train_net.py --config-file configs/mini/possam.yaml --eval-only \\
        MODEL.WEIGHTS output/mini/model_final.pth
    python tools/train_net.py --config-file configs/coco/possam_vit_b.yaml --config-file configs/eval/all.yaml \\
        --eval-only MODEL.WEIGHTS output/coco/vit_b/model_final.pth OUTPUT_DIR output/eval/vit_b

Exit codes: 0 done; 1 an error, said in one sentence; 75 stopped by a signal (SIGTERM, SIGUSR1, SIGUSR2): saved, to be
started again with --resume; 130 Ctrl-C. torchrun gives codes of its own.
"""

from __future__ import annotations

import argparse
import sys

from possam.utils.output import run_command


def main() -> None:
    # Here, so that a Detectron2 that cannot be used is told in a sentence.
    from possam.cli.job import JOB_ERRORS, run_job, sentence
    from possam.d2.engine import default_argument_parser

    parser = argparse.ArgumentParser(
        parents=[default_argument_parser()],
        conflict_handler="resolve",  # Detectron2's own --config-file takes one file
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "configuration to start from; may be repeated: a later file holds over those before it"
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help=text)
    parser.set_defaults(dist_url="auto")  # on one machine; Detectron2's is the same for all runs of a user
    try:
        run_job(parser.parse_args())
    except JOB_ERRORS as error:
        sys.exit(f"error: {sentence(error)}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    try:
        sys.exit(run_command(main))
    except ValueError as error:  # of the environment
        sys.exit(f"error: {error}")
