"""What goes into a program and what comes out: names, types and shapes, axes of any size by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_unflatten

__all__ = ["Signature", "TensorSpec", "signature_of"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. Axes are numbers, or names such as "batch" and "classes + 1"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in order; `symbols` are the names of axes by the symbols that stand for them in the graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    symbols: Mapping[str, str]


def signature_of(
    program: ExportedProgram, names: Iterable[str], dynamic: Mapping[str, Mapping[int, str]]
) -> Signature:
    """Read the signature of a program whose module gives a dict of tensors.

    Args:
        names: of the inputs, in their order.
        dynamic: names of the inputs' axes, {input: {axis: name}}.
    """
    places = [node for node in program.graph.nodes if node.op == "placeholder"]
    given = [
        node.meta["val"]
        for node, spec in zip(places, program.graph_signature.input_specs, strict=True)
        if spec.kind is InputKind.USER_INPUT
    ]
    inputs = dict(zip(names, given, strict=True))
    symbols = {
        str(inputs[name].shape[axis]): axis_name for name, axes in dynamic.items() for axis, axis_name in axes.items()
    }
    (results,) = next(node for node in program.graph.nodes if node.op == "output").args
    outputs = tree_unflatten([node.meta["val"] for node in results], program.call_spec.out_spec)
    return Signature(
        inputs=tuple(_spec(name, value, symbols) for name, value in inputs.items()),
        outputs=tuple(_spec(name, value, symbols) for name, value in outputs.items()),
        symbols=symbols,
    )


def _spec(name: str, value: Tensor, symbols: Mapping[str, str]) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else _named(str(size), symbols) for size in value.shape)
    return TensorSpec(name=name, dtype=str(value.dtype).removeprefix("torch."), shape=shape)


def _named(expression: str, symbols: Mapping[str, str]) -> str:
    return re.sub(r"\w+", lambda match: symbols.get(match[0], match[0]), expression)
