"""How `transformers serve` is asked: plain completions of token ids, which its tokenizer reads and writes as numbers.

Templates, text and stop strings are not its business: the model's folder in the artifact has a tokenizer whose text of
token 17 is "17". So ids reach the model as they are, and come back as they are.
"""

import json

import msgspec

from images.inside.engine.contract import Ask, EngineError, Heard

DATA = "data: "
NO_END = -1
"""The id of no token: an answer that never ends by itself."""


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: str = ""


_decode = msgspec.json.Decoder(_Chunk).decode


class Completions:
    """Its route for plain completions, streamed; satisfies `images.inside.engine.contract.Wire`."""

    path = "/v1/completions"
    health = "/health"
    honours = frozenset({"temperature", "top_k", "top_p"})

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def body(self, ask: Ask) -> bytes:
        """The request for one answer. Without chance only the most likely token is left to draw from."""
        how = ask.sampling
        config = {
            "do_sample": True,
            "temperature": 1.0 if how.greedy else float(how.temperature),
            "top_k": 1 if how.greedy else min(how.top_k or self._vocabulary, self._vocabulary),
            "top_p": 1.0 if how.greedy else float(how.top_p),
            "max_new_tokens": ask.max_tokens,
            "eos_token_id": list(ask.eos) or [NO_END],
        }
        asked = {"prompt": " ".join(map(str, ask.prompt)), "stream": True, "generation_config": json.dumps(config)}
        return msgspec.json.encode(asked)

    def hear(self, line: str) -> Heard | None:
        """What an event says; None for the lines between events."""
        if not line.startswith(DATA):
            return None
        try:
            chunk = _decode(line[len(DATA) :])
        except msgspec.DecodeError as error:  # its errors are not always JSON
            raise EngineError(line[len(DATA) :]) from error
        if chunk.error or not chunk.choices:
            raise EngineError(chunk.error or line)
        said = chunk.choices[0]
        return Heard(tuple(map(int, said.text.split())), said.finish_reason is not None)
