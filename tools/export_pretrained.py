"""Make a folder for `from_pretrained` of a trainer's checkpoint, and upload it to the Hugging Face hub if asked.

Works on the CPU, whatever device the configuration names, and needs the frozen encoders' weights, but no images.

Examples:
    python tools/export_pretrained.py --config-file output/mini/config.yaml --output exported/mini \\
        --results output/mini/evaluation/results.json MODEL.WEIGHTS output/mini/model_final.pth
    python tools/export_pretrained.py --config-file output/vit_b/config.yaml --output exported/vit_b \\
        --dtype float16 --push-to-hub someone/possam-vit-b --private MODEL.WEIGHTS output/vit_b/model_final.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from possam.utils.files import full_path, read_json
from possam.utils.output import run_command

if TYPE_CHECKING:
    from possam.d2.config import CfgNode

_ON_THE_CPU = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"]


def as_written(paths: list[str], overrides: list[str]) -> CfgNode:
    """A valid configuration without this machine's changes: the exported model is to run on another."""
    import possam.models  # noqa: F401  # registers the systems' keys
    from possam.config import load

    return load(paths, overrides)


def read_results(paths: list[Path]) -> dict[str, Any]:
    """Headline metrics by dataset, from the results.json of one dataset each or of a whole run."""
    from possam.evaluation import headline_metrics

    results: dict[str, Any] = {}
    for path in paths:
        content = read_json(path)
        results |= content.get("datasets") or {content.get("dataset", {}).get("name", path.parent.name): content}
    return {dataset: headline_metrics(content) for dataset, content in results.items()}


def main() -> None:
    from possam.d2.utils import setup_logger
    from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
    from possam.models.state import DTYPES

    dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "config.yaml beside the checkpoint; may be repeated: a later file holds over those before it"
    parser.add_argument("--config-file", action="append", required=True, metavar="FILE", help=text)
    parser.add_argument("--output", required=True, type=full_path, help="folder to write")
    parser.add_argument("--dtype", choices=list(dtypes), default="float32", help="of the parameters in the file")
    parser.add_argument("--results", action="append", type=full_path, default=[], help="a results.json for the README")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="repository of the hub to upload to, too")
    parser.add_argument("--private", action="store_true", help="make a new repository of the hub private")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs; MODEL.WEIGHTS names the checkpoint")
    args = parser.parse_args()
    setup_logger(name="possam")
    cfg = load_config(args.config_file, [*args.opts, *_ON_THE_CPU])
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("There are no trained parameters to export; add `MODEL.WEIGHTS <path to model_final.pth>`.")
    prepare_datasets(cfg)
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    what: dict[str, Any] = {
        "cfg": as_written(args.config_file, args.opts),
        "dtype": dtypes[args.dtype],
        "results": read_results(args.results),
    }
    folder = model.save_pretrained(args.output, **what)
    print(f"Written to {folder}:", *sorted(path.name for path in folder.iterdir()))
    if args.push_to_hub:
        print("Uploaded to", model.push_to_hub(args.push_to_hub, private=args.private or None, **what))


if __name__ == "__main__":
    try:
        if code := run_command(main):
            sys.exit(code)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
