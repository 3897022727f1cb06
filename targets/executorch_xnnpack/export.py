"""The model to ExecuTorch by Optimum's exporter and its recipe for XNNPACK; what that lacks of tasks is added here."""

from collections.abc import Callable, Mapping
from typing import Any

from images.inside.contract import Exported, Exporting
from targets.executorch_xnnpack import apps, export_encoder, export_generation, export_pictures

EXPORTABLE: Mapping[str, Callable[[Exporting], Any]] = {"image-classification": export_pictures.exportable}
"""By task, what Optimum's recipe is given; all others have an encoder for texts."""
ENTRY = "model.pte"
PRIMITIVE = "executorch_prim::"
"""Views and arithmetic on sizes: they compute nothing."""


def export(given: Exporting) -> Exported:
    """Write `model.pte` and what belongs to it."""
    lowered = (export_generation.export if given.source.task == export_generation.TASK else _one_step)(given)
    return Exported(ENTRY, measures={"delegated": delegated(lowered), **apps.write(given)})


def _one_step(given: Exporting) -> Any:
    """Write `model.pte` of a network that answers at once; the program says the names. Returns what was lowered."""
    from optimum.exporters.executorch import main_export
    from optimum.exporters.executorch.task_registry import discover_tasks, register_task

    task = given.source.task
    discover_tasks()  # before ours, which is registered in the place of one of them
    register_task(task)(lambda *_, **__: EXPORTABLE.get(task, export_encoder.exportable)(given))
    return main_export(str(given.model), task, "xnnpack", given.out)["model"]


def delegated(lowered: Any) -> float:
    """The share of the program's operators that XNNPACK runs; the others are calls of ExecuTorch's own kernels."""
    from executorch.devtools.backend_debug import get_delegation_info

    inside = get_delegation_info(lowered.exported_program("forward").graph_module).num_delegated_nodes
    plan = next(plan for plan in lowered.executorch_program.execution_plan if plan.name == "forward")
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    kernels = [plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index")]
    outside = sum(not name.startswith(PRIMITIVE) for name in kernels)
    return float(inside / (inside + outside))
