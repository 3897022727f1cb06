"""What the tests of the routes that generate serve: the small real generator, its template, the server around it."""

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai

from images.inside.contract import FloatArray
from images.inside.generation.contract import Generator
from images.inside.generation.request import Request, Sampling
from images.inside.loaded import LoadedGenerator
from images.inside.prompts import Prompts
from images.inside.records import GenerationFacts, Manifest
from images.inside.server import running
from images.inside.settings import Settings
from tests.inside import serving, tiny
from tests.inside.generating import EOS, SPECIAL, VOCABULARY, ChainGenerator, alone, ids
from tests.inside.serving import MODEL

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Certificates that are not read: it would take longer than most tests."""
HTTP = httpx.Client(verify=NO_TLS, limits=httpx.Limits(max_keepalive_connections=0), timeout=10)
CONTEXT = 256
TEMPLATE = (
    "{% for tool in tools or [] %}<{{ tool.function.name }}>{% endfor %}"
    "{% for message in messages %}{{ message.role[0] }}:{{ message.content }};"
    "{% for call in message.tool_calls or [] %}{{ call.function.arguments.x }}{% endfor %}{% endfor %}"
    "{{ mood or '' }}a:"
)
"""Shows roles by their first letter, names of tools, the argument `x` of calls and the variable `mood`."""
FACTS = GenerationFacts(
    context=CONTEXT,
    vocabulary=VOCABULARY,
    eos=[EOS],
    bos=None,
    chat_template=TEMPLATE,
    special=sorted(SPECIAL),
    defaults={"temperature": 0.0},
)
HELLO = [{"role": "user", "content": "hello"}]
"""Its prompt is `u:hello;a:`."""


class Scripted(ChainGenerator):
    """A generator that answers any prompt with one text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._script = [*ids(text), EOS]
        self._prompts = dict.fromkeys(range(self.slots), 0)

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        super().prefill(slot, ids)
        self._prompts[slot] = self.length(slot)
        return self._scripted(slot)

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        super().decode(slots, ids)
        return np.stack([self._scripted(slot) for slot in slots])

    def _scripted(self, slot: int) -> FloatArray:
        logits = np.zeros(VOCABULARY, np.float32)
        logits[self._script[min(self.length(slot) - self._prompts[slot], len(self._script) - 1)]] = 50
        return logits


def manifest(facts: GenerationFacts = FACTS) -> Manifest:
    """The generator's manifest."""
    return serving.manifest(task="text-generation", embedding=None, max_length=CONTEXT, generation=facts)


@contextmanager
def served(generator: Generator | None = None, facts: GenerationFacts = FACTS, **settings: Any) -> Iterator[str]:
    """A ready server on the loopback: its URL."""
    stated = manifest(facts)
    model = LoadedGenerator(
        artifact=Path(),
        manifest=stated,
        prompts=Prompts(tiny.bytelevel(), facts),
        runner=generator or ChainGenerator(),
    )
    with running(stated, Settings(**settings), lambda: model) as url:
        yield url


def connected(url: str) -> openai.OpenAI:
    """A client that does not try again."""
    client = openai.DefaultHttpxClient(verify=NO_TLS)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=client)


def expected(prompt: str, max_tokens: int = 12, **sampling: Any) -> str:
    """The answer to a prompt, worked out without the server."""
    how = Sampling(**{"temperature": 0.0, **sampling})
    return alone(Request(prompt=ids(prompt), max_tokens=max_tokens, sampling=how))


def body(**changes: Any) -> dict[str, Any]:
    """A chat request of 12 tokens."""
    return {"model": MODEL, "messages": HELLO, "max_tokens": 12, **changes}


def raw(url: str, path: str, request: Mapping[str, Any]) -> bytes:
    """The bytes of a streamed answer."""
    return HTTP.post(f"{url}/v1/{path}", json={**request, "stream": True}).raise_for_status().content


def chunks(stream: bytes) -> list[Any]:
    """The chunks of a stream without names, which ends as OpenAI's do."""
    *events, done, rest = stream.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(_data(event)) for event in events]


def named(stream: bytes) -> list[Any]:
    """The events of a stream with names; each says its name in its data, too."""
    *events, rest = stream.split(b"\n\n")
    assert rest == b""
    found = []
    for lines in events:
        name, event = lines.split(b"\n")
        found.append(json.loads(_data(event)))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def _data(line: bytes) -> bytes:
    assert line.startswith(b"data: ")
    assert b"\n" not in line
    return line.removeprefix(b"data: ")


def unknown(answer: openai.BaseModel) -> list[str]:
    """Fields that the API's own types do not have, however deep."""
    extra = list(answer.model_extra or {})
    return extra + [name for value in answer.__dict__.values() for name in _unknown(value)]


def _unknown(value: Any) -> list[str]:
    if isinstance(value, openai.BaseModel):
        return unknown(value)
    return (
        [name for part in value for name in _unknown(part)]
        if isinstance(value, Sequence | list) and not isinstance(value, str)
        else []
    )
