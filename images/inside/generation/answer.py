"""An answer on its way: the worker words it, the event loop reads it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self

from images.inside.generation.detokenize import TextStream
from images.inside.generation.request import Finish
from images.inside.generation.sampling import Picked
from images.inside.generation.stops import Stops


class Piece(NamedTuple):
    """What a step adds to an answer.

    Attributes:
        text: whole characters; no part of a stop string.
        tokens: the tokens whose text this is, if their log probabilities were asked for.
        generated: how many tokens the answer has so far, the model's end token included.
        finish: why the answer ends with this piece; None when it goes on.

    """

    text: str
    tokens: tuple[Picked, ...]
    generated: int
    finish: Finish | None


class Wording:
    """From chosen tokens to pieces of text. A token comes out with its text, or is dropped with it at a stop string."""

    def __init__(self, stream: TextStream, stops: Stops, *, logprobs: bool) -> None:
        self._stream, self._stops, self._logprobs = stream, stops, logprobs
        self._waiting: deque[tuple[int, int, Picked]] = deque()  # where a token's text begins and ends, and the token
        self._made, self._sent = 0, 0  # characters

    def push(self, picked: Picked) -> tuple[str, tuple[Picked, ...], bool]:
        """Text and tokens that may go out, and whether a stop string ended the answer."""
        new = self._stream.push(picked.token)
        if self._logprobs:
            self._waiting.append((self._made, self._made + len(new), picked))
        return self._send(new)

    def end(self) -> tuple[str, tuple[Picked, ...]]:
        """What is left when the answer ends otherwise."""
        text, tokens, stopped = self._send(self._stream.flush())
        if stopped:
            return text, tokens
        return text + self._stops.flush(), (*tokens, *(picked for _, _, picked in self._waiting))

    def _send(self, new: str) -> tuple[str, tuple[Picked, ...], bool]:
        text, stopped = self._stops.push(new)
        self._made += len(new)
        self._sent += len(text)
        tokens = []
        while self._waiting and self._is_out(*self._waiting[0][:2], stopped=stopped):
            tokens.append(self._waiting.popleft()[2])
        return text, tuple(tokens), stopped

    def _is_out(self, begin: int, end: int, *, stopped: bool) -> bool:
        return begin < self._sent if stopped else end <= self._sent


class Answer:
    """The pieces of one answer, on the event loop: `async for piece in answer`. One reader.

    Attributes:
        prompt_tokens: how many tokens the prompt has.
        generated: how many tokens the answer has so far.
        finish: why it ended; None while it goes on.

    """

    def __init__(self, prompt_tokens: int, cancel: Callable[[], None]) -> None:
        self.prompt_tokens, self.generated = prompt_tokens, 0
        self.finish: Finish | None = None
        self._cancel = cancel
        self._pieces: deque[Piece] = deque()
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._pieces:
            if self._error:
                raise self._error
            if self.finish:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._pieces.popleft()

    async def text(self) -> str:
        """The whole text, when it is there. A cancelled caller cancels the answer."""
        try:
            return "".join([piece.text async for piece in self])
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop generating, if it has not ended: nobody reads on. What has come can still be read."""
        if not self.ended:
            self._cancel()
            self.put(Piece("", (), self.generated, Finish.CANCELLED))

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.finish is not None or self._error is not None

    def put(self, piece: Piece) -> None:
        """Add a piece; what comes after the end is dropped."""
        if not self.ended:
            self._pieces.append(piece)
            self.generated, self.finish = piece.generated, piece.finish
            self._wake()

    def fail(self, error: Exception) -> None:
        """End with an error, unless it has ended."""
        if not self.ended:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
