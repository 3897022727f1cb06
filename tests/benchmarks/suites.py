"""Which benchmark a task has."""

from pathlib import Path

from images.config import Config
from images.errors import UsageError
from images.inside.records import Struct
from images.progress import Progress
from tests.benchmarks import encoder, report
from tests.benchmarks.choice import Choice
from tests.benchmarks.generation import benchmark
from tests.benchmarks.generation import report as generation

TASKS = ("feature-extraction", benchmark.TASK)


def run(
    task: str, config: Config, progress: Progress, dist: Path, *, rounds: int, model: str, choice: Choice
) -> tuple[Struct, str]:
    """A task's result, and its table. Raises an `ImageError`."""
    if task == benchmark.TASK:
        generated = benchmark.run(config, progress, dist, rounds=rounds, name=model, choice=choice)
        return generated, generation.table(generated)
    if task not in TASKS:
        raise UsageError(f"there is no benchmark of {task}", f"the tasks are: {', '.join(TASKS)}")
    if choice.only or (choice.modes and not choice.target):
        raise UsageError(f"{task} has no contestants to choose", "leave out --only, and name a --target beside --modes")
    chosen = choice if choice.target else None
    encoded = encoder.run(config, progress, dist, rounds=rounds, model=model, choice=chosen)
    return encoded, report.table(encoded)
