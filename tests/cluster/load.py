"""Runs in a pod on its own: asks a service without a pause, and says every second how often it was answered."""

import json
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Load:
    """Clients that ask at once, each on a new connection for every request, as a Service spreads them.

    Attributes:
        failed: what was not answered, and when, in seconds since the start.

    """

    url: str
    model: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> None:
        """Ask, over and over."""
        body = json.dumps({"model": self.model, "input": "Hello, world"}).encode()
        while True:
            request = urllib.request.Request(  # noqa: S310 - the test names it
                f"{self.url}/v1/embeddings", body, {"content-type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                    json.load(response)
            except (OSError, ValueError) as error:
                with self.lock:
                    self.failed.append(f"{time.monotonic() - self.since:.1f} s: {error!r}")
                time.sleep(0.5)
            else:
                with self.lock:
                    self.answered += 1

    def told(self) -> str:
        """What came of it so far."""
        with self.lock:
            return json.dumps({"answered": self.answered, "failed": self.failed[:20]})


def main(url: str, model: str, clients: int) -> None:
    """Ask until the pod is deleted."""
    load = Load(url=url, model=model)
    for _ in range(clients):
        threading.Thread(target=load.ask, daemon=True).start()
    while True:
        time.sleep(1)
        print(load.told(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
