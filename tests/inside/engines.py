"""The server in front of an engine of its own, which is a program that plays a script."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.inside.engine.contract import Launch
from images.inside.engine.process import Process
from images.inside.loaded import LoadedEngine
from images.inside.prompts import Prompts
from images.inside.records import GenerationFacts
from images.inside.server import Server, listen
from images.inside.settings import Settings
from images.inside.transformers_serve.wire import Completions
from tests.inside import texting, tiny
from tests.inside.generating import EOS, VOCABULARY, ids

ENGINE = Path(__file__).with_name("fake_engine.py")
SIGNS = {str(ids(sign)[-1]): sign for sign in "!?~#%"}
ANSWER = [*ids("well"), EOS]


@dataclass(frozen=True)
class Serving:
    """A server and its engine.

    Attributes:
        url: the server's.
        server: on a thread of this process.
        model: what it serves.
        log: what the engine noted.

    """

    url: str
    server: Server
    model: LoadedEngine
    log: Path

    def asked(self) -> list[dict[str, Any]]:
        """The requests that reached the engine."""
        return [entry for entry in self.noted() if entry["event"] == "asked"]

    def noted(self) -> list[dict[str, Any]]:
        """All that the engine noted."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


def launch(log: Path, **changes: Any) -> Launch:
    """How the engine that plays is started."""
    facts: dict[str, Any] = {
        "argv": [sys.executable, str(ENGINE), "{port}", str(log), json.dumps(SIGNS), json.dumps(ANSWER)],
        "environment": {},
        "wire": Completions(VOCABULARY),
        "slots": 2,
        "kv_tokens": 4 * texting.CONTEXT,
        "page": 16,
        "context": texting.CONTEXT,
        "facts": {"runtime": "played", "device": "cpu"},
    }
    return Launch(**{**facts, **changes})


def loaded(log: Path, facts: GenerationFacts = texting.FACTS, **changes: Any) -> LoadedEngine:
    """A started engine."""
    return LoadedEngine(
        artifact=Path(),
        manifest=texting.manifest(facts),
        prompts=Prompts(tiny.bytelevel(), facts),
        process=Process(launch(log, **changes), seconds=20),
    )


@contextmanager
def served(
    folder: Path, facts: GenerationFacts = texting.FACTS, changes: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Serving]:
    """A ready server in front of an engine of its own; both have ended afterwards."""
    model = loaded(folder / "log", facts, **(changes or {}))
    listening = listen("127.0.0.1", 0)
    server = Server(model.manifest, Settings(**settings), lambda: model)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        assert server.settled.wait(20)
        yield Serving(f"http://127.0.0.1:{listening.getsockname()[1]}", server, model, folder / "log")
    finally:
        server.should_exit = True
        thread.join(20)
        model.process.end()
