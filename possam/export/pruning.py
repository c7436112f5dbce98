"""Programs without the weights they do not use."""

from __future__ import annotations

from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind

__all__ = ["without_unused"]


def without_unused(program: ExportedProgram) -> ExportedProgram:
    """The same program without the parameters and buffers that nothing reads.

    torch.export keeps all that its module has, so a decoder that needs CLIP's last projection would carry all of CLIP.
    """
    graph, signature = program.graph, program.graph_signature
    places = [node for node in graph.nodes if node.op == "placeholder"]
    used = [
        bool(node.users) or spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER)
        for node, spec in zip(places, signature.input_specs, strict=True)
    ]
    for node, keep in zip(places, used, strict=True):
        if not keep:
            graph.erase_node(node)
    kept = [spec for spec, keep in zip(signature.input_specs, used, strict=True) if keep]
    targets = {spec.target for spec in kept}
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=ExportGraphSignature(input_specs=kept, output_specs=signature.output_specs),
        state_dict={name: value for name, value in program.state_dict.items() if name in targets},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=None,  # as large as images, and saved with the program
        constants={name: value for name, value in program.constants.items() if name in targets},
        verifiers=program.verifiers,
    )
