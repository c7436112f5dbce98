"""Train and evaluate a model from a configuration.

Examples:
    python tools/train_net.py --config-file configs/mini/possam.yaml
    python tools/train_net.py --config-file configs/coco/possam_vit_b.yaml --num-gpus 8 OUTPUT_DIR output/vit_b
    torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/coco/possam_vit_b.yaml
    python tools/train_net.py --config-file configs/mini/possam.yaml --eval-only \\
        MODEL.WEIGHTS output/mini/model_final.pth
"""

from __future__ import annotations

import argparse
import sys

from possam.cases import draw_cases
from possam.d2.engine import default_argument_parser, default_setup
from possam.d2.utils import comm, setup_logger
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets, run, unwrap


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    prepare_datasets(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="possam")
    if args.eval_only:
        if not cfg.MODEL.WEIGHTS:
            raise ValueError("--eval-only needs trained parameters; add `MODEL.WEIGHTS <path to model_final.pth>`.")
        model = Trainer.build_model(cfg)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
        model = unwrap(trainer.model)
    if cfg.TEST.PICTURES and comm.is_main_process():
        paths = [path for dataset in cfg.DATASETS.TEST for path in draw_cases(cfg, model, dataset)]
        print("Pictures:", *paths, sep="\n  ")


if __name__ == "__main__":
    try:
        run(main, default_argument_parser(__doc__).parse_args())
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        # An error of a data loader's process arrives wrapped in its traceback, with the sentence at the end.
        wrapped = "Original Traceback" in str(error)
        sys.exit(f"error: {str(error).strip().splitlines()[-1] if wrapped else error}")
