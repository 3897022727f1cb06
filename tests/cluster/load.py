"""Runs in a pod on its own: asks a service over and over, and says every second how often it was answered."""

import http.client
import json
import random
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

TIMEOUT = 30
PAUSE = 0.5
"""Seconds at most between two requests of a client: real ones leave a kept connection idle, too."""
HEADERS = {"content-type": "application/json"}


@dataclass(kw_only=True)
class Load:
    """Clients that ask at once.

    Attributes:
        host: the service, by name.
        model: what is asked.
        failed: what was not answered, and when, in seconds since the start.

    """

    host: str
    model: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, *, keeping: bool) -> None:
        """Ask, over and over: on one connection for as long as the server keeps it, or on a new one every time."""
        connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT)
        while True:
            try:
                self._ask(connection)
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    how = "kept" if keeping else "new"
                    self.failed.append(f"{time.monotonic() - self.since:.1f} s, {how} connection: {error!r}")
                connection.close()
                time.sleep(0.5)
            if not keeping:
                connection.close()
            time.sleep(random.uniform(0, PAUSE))

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        body = json.dumps({"model": self.model, "input": "Hello, world"})
        connection.request("POST", "/v1/embeddings", body, HEADERS)
        with closing(connection.getresponse()) as response:
            said = response.read()
            if response.status != http.client.OK:
                raise http.client.HTTPException(response.status, said[:200])
        with self.lock:
            self.answered += 1

    def told(self) -> str:
        """What came of it so far."""
        with self.lock:
            return json.dumps({"answered": self.answered, "failed": self.failed[:20]})


def main(host: str, model: str, clients: int) -> None:
    """Ask until the pod is deleted: every other client keeps its connection."""
    load = Load(host=host, model=model)
    for number in range(clients):
        threading.Thread(target=load.ask, kwargs={"keeping": bool(number % 2)}, daemon=True).start()
    while True:
        time.sleep(1)
        print(load.told(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
