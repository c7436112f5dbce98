"""The mask decoder against the field's way: full masks after every layer, resized to attend inside of them."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.case import Case, Work, relative_error
from possam.decoders import MaskDecoder
from tests.reference.mask_decoder import decode_masks

IMAGE = (480, 640)
_QUERIES = 250


def cases(device: str) -> list[Case]:
    """What inference computes: the final prediction; on CUDA under autocast too."""
    # rounding decides at 1 of the 4.7 million places here whether it is inside, where the query then looks or does not
    found = [_case(device, torch.float32, 1e-4 if device == "cpu" else 1e-3)]
    # in half precision the two round masks near 0 to different sides, and look at different places from there on
    return found if device == "cpu" else [*found, _case(device, torch.bfloat16, None)]


def _case(device: str, dtype: torch.dtype, tolerance: float | None) -> Case:
    return Case(
        name=f"mask decoder, {_QUERIES} queries, 640×480" + (", bf16" if dtype == torch.bfloat16 else ""),
        reference="nn.MultiheadAttention, full masks of every layer",
        ours=lambda: _decoder(device, dtype, ours=True),
        theirs=lambda: _decoder(device, dtype, ours=False),
        error=None if tolerance is None else relative_error,
        tolerance=tolerance or 0.0,
        time_target=0.7,
    )


def _decoder(device: str, dtype: torch.dtype, *, ours: bool) -> Work:
    torch.manual_seed(0)
    decoder = MaskDecoder(queries=_QUERIES).eval().to(device)
    features = torch.randn(1, 256, IMAGE[0] // 4, IMAGE[1] // 4).to(device)
    scales = [torch.randn(1, 256, IMAGE[0] // stride, IMAGE[1] // stride).to(device) for stride in (32, 16, 8)]

    @torch.no_grad()
    def work() -> Tensor:
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            decode = decoder if ours else lambda *inputs: decode_masks(decoder, *inputs)
            final = decode(features, scales)[-1]
        return torch.cat([x.float().flatten() for x in final])

    return work
