"""What `/metrics` says, in a registry of its own so that two servers in one process do not meet."""

from collections.abc import Callable
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from images.inside.batching import Batch, Batcher
from images.inside.generation.scheduler import Load, Step
from images.inside.records import Manifest

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# They would double the text, and nobody asks when a counter was made.
disable_created_metrics()  # type: ignore[no-untyped-call]
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What every server counts."""

    def __init__(self, manifest: Manifest) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "modelyard_requests", "Answered requests", ["route", "method", "status"], registry=registry
        )
        self._latency = Histogram(
            "modelyard_request_seconds", "Time to answer", ["route"], registry=registry, buckets=SECONDS
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.ready = Gauge("modelyard_ready", "1 when requests are answered", registry=registry)
        self._info(manifest)

    def _info(self, manifest: Manifest) -> None:
        facts = {
            "model": manifest.model.id,
            "revision": manifest.model.revision,
            "target": manifest.target,
            "task": manifest.task,
            "mode": manifest.mode,
        }
        Gauge("modelyard_model_info", "What is served; always 1", list(facts), registry=self.registry).labels(
            **facts
        ).set(1)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is a template such as `/v1/models/{id}`, so that series stay few."""
        key = (route, method, status)
        if key not in self._series:  # finding one by its labels costs more than counting
            self._series[key] = self._requests.labels(route, method, str(status)), self._latency.labels(route)
        requests, latency = self._series[key]
        requests.inc()
        latency.observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)


class PredictingMetrics:
    """What is counted of a model that predicts.

    Args:
        registry: where.
        unit: what its work is measured in.

    """

    def __init__(self, registry: CollectorRegistry, unit: str = "tokens") -> None:
        self._registry, self._unit = registry, unit
        self._items, self._seconds = _batches(registry, "Inputs of a batch")
        about = f"{unit.capitalize()} that the model ran, padding not counted"
        self._tokens = Counter(f"modelyard_{unit}", about, registry=registry)
        self._padding = Counter(f"modelyard_padding_{unit}", "Padding that the model ran", registry=registry)

    def watch(self, batcher: Batcher) -> None:
        """Read the queue whenever metrics are asked for."""
        _watched(self._registry, "queue_items", "Inputs that wait", lambda: batcher.queued[0])
        about = f"{self._unit.capitalize()} that wait"
        _watched(self._registry, f"queue_{self._unit}", about, lambda: batcher.queued[1])

    def batch(self, batch: Batch) -> None:
        """Count one call of the runner."""
        self._items.observe(batch.items)
        self._seconds.observe(batch.seconds)
        self._tokens.inc(batch.tokens)
        self._padding.inc(batch.padded_tokens - batch.tokens)


class Worker(Protocol):
    """Who generates: a loop in this process, or the relay to an engine."""

    @property
    def queued(self) -> int:
        """Answers that wait for a slot."""
        ...

    @property
    def load(self) -> Load:
        """What the slots hold."""
        ...


class GeneratingMetrics:
    """What is counted of a model that generates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._items, self._seconds = _batches(registry, "Sequences of a step")
        self._prompt = Counter("modelyard_prompt_tokens", "Prompt tokens that were read", registry=registry)
        self._generated = Counter("modelyard_generated_tokens", "Tokens that were generated", registry=registry)
        self._reading = Counter("modelyard_prompt_seconds", "Time in which prompts were read", registry=registry)
        self._decoding = Counter(
            "modelyard_decode_seconds", "Time in which answers went on, all of a batch at once", registry=registry
        )
        self._first = Histogram(
            "modelyard_time_to_first_token_seconds",
            "From a request's arrival to its first token",
            registry=registry,
            buckets=(*SECONDS, 60),
        )
        self._next = Histogram(
            "modelyard_inter_token_seconds", "From one token to the next", registry=registry, buckets=(0.001, *SECONDS)
        )
        self._answers = Counter("modelyard_answers", "Answers, by why they ended", ["finish"], registry=registry)

    def watch(self, loop: Worker, slots: int, kv_tokens: int) -> None:
        """Read the queue and the slots whenever metrics are asked for."""
        registry = self._registry
        _watched(registry, "queue_items", "Answers that wait for a slot", lambda: loop.queued)
        _watched(registry, "running_sequences", "Sequences that have a slot", lambda: loop.load.running)
        _watched(registry, "slots", "Sequences that may run at once", lambda: slots)
        _watched(registry, "kv_tokens", "Tokens in the key-value cache", lambda: loop.load.kv_tokens)
        _watched(
            registry,
            "kv_reserved_tokens",
            "Tokens in the key-value cache if every sequence becomes as long as it may",
            lambda: loop.load.reserved_tokens,
        )
        _watched(registry, "kv_tokens_limit", "The most reserved tokens", lambda: kv_tokens)

    def step(self, step: Step) -> None:
        """Count one call of the generator."""
        self._items.observe(step.batch)
        self._seconds.observe(step.seconds)
        self._prompt.inc(step.tokens_in)
        self._generated.inc(step.tokens_out)
        (self._reading if step.tokens_in else self._decoding).inc(step.seconds)
        for seconds in step.first_seconds:
            self._first.observe(seconds)
        for seconds in step.token_seconds:
            self._next.observe(seconds)

    def answer(self, finish: str) -> None:
        """Count one answer that has ended."""
        self._answers.labels(finish).inc()


def _batches(registry: CollectorRegistry, items: str) -> tuple[Histogram, Histogram]:
    return (
        Histogram("modelyard_batch_items", items, registry=registry, buckets=ITEMS),
        Histogram("modelyard_batch_seconds", "Time a batch ran", registry=registry, buckets=SECONDS),
    )


def _watched(registry: CollectorRegistry, name: str, about: str, read: Callable[[], float]) -> None:
    Gauge(f"modelyard_{name}", about, registry=registry).set_function(read)
