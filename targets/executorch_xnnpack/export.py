"""The model to ExecuTorch by Optimum's exporter and its recipe for XNNPACK; what that lacks of tasks is added here."""

from collections.abc import Callable, Mapping
from typing import Any

from images.inside.contract import Exported, Exporting
from targets.executorch_xnnpack import apps, export_encoder, export_generation

EXPORTERS: Mapping[str, Callable[[Exporting], Any]] = {"text-generation": export_generation.export}
"""By task; all others have an encoder."""
ENTRY = "model.pte"
PRIMITIVE = "executorch_prim::"
"""Views and arithmetic on sizes: they compute nothing."""


def export(given: Exporting) -> Exported:
    """Write `model.pte` and what belongs to it."""
    lowered = EXPORTERS.get(given.source.task, export_encoder.export)(given)
    return Exported(ENTRY, measures={"delegated": delegated(lowered), "app_tokenizer": apps.write(given)})


def delegated(lowered: Any) -> float:
    """The share of the program's operators that XNNPACK runs; the others are calls of ExecuTorch's own kernels."""
    from executorch.devtools.backend_debug import get_delegation_info

    inside = get_delegation_info(lowered.exported_program("forward").graph_module).num_delegated_nodes
    plan = next(plan for plan in lowered.executorch_program.execution_plan if plan.name == "forward")
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    kernels = [plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index")]
    outside = sum(not name.startswith(PRIMITIVE) for name in kernels)
    return float(inside / (inside + outside))
