"""What `/metrics` says, in a registry of its own so that two servers in one process do not meet."""

from collections.abc import Callable

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

from images.inside.batching import Batch
from images.inside.contract import Manifest

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# They would double the text, and nobody asks when a counter was made.
disable_created_metrics()  # type: ignore[no-untyped-call]
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self, manifest: Manifest) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "modelyard_requests", "Answered requests", ["route", "method", "status"], registry=registry
        )
        self._latency = Histogram(
            "modelyard_request_seconds", "Time to answer", ["route"], registry=registry, buckets=SECONDS
        )
        self._batch_items = Histogram("modelyard_batch_items", "Inputs of a batch", registry=registry, buckets=ITEMS)
        self._batch_seconds = Histogram(
            "modelyard_batch_seconds", "Time a batch ran", registry=registry, buckets=SECONDS
        )
        self._tokens = Counter("modelyard_tokens", "Tokens that the model ran, padding not counted", registry=registry)
        self._padding = Counter("modelyard_padding_tokens", "Padding that the model ran", registry=registry)
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

    def watch_queue(self, queued: Callable[[], tuple[int, int]]) -> None:
        """Read the queue's items and tokens whenever metrics are asked for."""
        items = Gauge("modelyard_queue_items", "Inputs that wait", registry=self.registry)
        tokens = Gauge("modelyard_queue_tokens", "Tokens that wait", registry=self.registry)
        items.set_function(lambda: queued()[0])
        tokens.set_function(lambda: queued()[1])

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is a template such as `/v1/models/{id}`, so that series stay few."""
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def batch(self, batch: Batch) -> None:
        """Count one call of the runner."""
        self._batch_items.observe(batch.items)
        self._batch_seconds.observe(batch.seconds)
        self._tokens.inc(batch.tokens)
        self._padding.inc(batch.padded_tokens - batch.tokens)

    def text(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)
