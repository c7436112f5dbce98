"""What `tools/benchmark.py gpu` measures: a file a case, each with a function `run`, and a line here.

The order is that of importance: where time runs out, the last cases are left out.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A case, which runs in a process of its own.

    Attributes:
        name: what it is called in the results.
        module: of `benchmarks.gpu`; its function `run` takes the `Bench`, and the system if there is one.
        system: a key of `benchmarks.gpu.systems.SYSTEMS`, or "".
        least: seconds; with less than these left it is not begun.
        most: seconds; after these it is stopped.
    """

    name: str
    module: str
    system: str = ""
    least: float = 20
    most: float = 90


CASES = (
    Case("environment", "environment", least=0),
    Case("deformable attention", "deform_attn"),
    Case("SAM", "sam"),
    Case("inference, PosSAM-B", "inference", "PosSAM-B"),
    Case("training, PosSAM-B", "training", "PosSAM-B"),
    Case("inference, FC-CLIP-L", "inference", "FC-CLIP-L"),
    Case("training, FC-CLIP-L", "training", "FC-CLIP-L"),
    Case("inference, PosSAM-H", "inference", "PosSAM-H"),
    Case("training, PosSAM-H", "training", "PosSAM-H"),
    Case("CLIP towers", "clip"),
    Case("training, PosSAM-L", "training", "PosSAM-L"),
    Case("determinism", "determinism"),
    Case("one process of NCCL", "distributed", most=45),
    Case("out of memory", "out_of_memory"),
    Case("prompts, OVSAM", "prompted", "OVSAM"),
    Case("inference, OPSNet-R50", "inference", "OPSNet-R50"),
    Case("inference, OPSNet-Swin-L", "inference", "OPSNet-Swin-L"),
    Case("text bank", "text"),
    Case("compiled, PosSAM-B", "compiled", "PosSAM-B", least=60, most=150),
    Case("compiled, FC-CLIP-L", "compiled", "FC-CLIP-L", least=60, most=150),
    Case("compiled, PosSAM-H", "compiled", "PosSAM-H", least=60, most=150),
    Case("compiled, PosSAM-L", "compiled", "PosSAM-L", least=60, most=150),
)
