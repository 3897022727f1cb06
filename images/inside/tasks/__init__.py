"""The tasks: requests to items, outputs to answers. A task is a module here, found by its name."""

import importlib

from images.inside.contract import Task

TEXTS = ("feature-extraction", "fill-mask", "question-answering", "text-classification", "token-classification")
"""Tasks of models that read text."""
PICTURES = ("image-classification",)
"""Tasks of models that look at pictures."""
NAMES = tuple(sorted((*TEXTS, *PICTURES)))


def load(name: str) -> Task:
    """The task of this name. Raises `LookupError` when there is none."""
    if name not in NAMES:
        raise LookupError(f"there is no task {name!r}; the tasks are {', '.join(NAMES)}")
    task: Task = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").TASK
    return task
