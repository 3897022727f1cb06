"""Asking a running engine: one answer is one stream of token ids."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from images.inside.engine.contract import Ask, EngineError, Heard, Launch

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10
AT_ONCE = 4
"""Answers that are asked for together where only the answers count: some join a batch that runs."""


class Client:
    """Asks one engine. It belongs to the event loop that it is first used on."""

    def __init__(self, launch: Launch, port: int, stall_seconds: float) -> None:
        self._wire, self._url = launch.wire, f"http://127.0.0.1:{port}{launch.wire.path}"
        self._http = _http(stall_seconds)

    async def answer(self, ask: Ask) -> AsyncGenerator[Heard, None]:
        """The answer as it comes. Leaving early closes the connection, by which the engine knows.

        Raises:
            EngineError: the engine refused, failed or went away.
            TimeoutError: it said nothing for too long.

        """
        import httpx2

        body, headers = self._wire.body(ask), {"content-type": "application/json"}
        try:
            async with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                if response.status_code != httpx2.codes.OK:
                    said = (await response.aread()).decode(errors="replace")
                    raise EngineError(f"the engine answers {response.status_code}: {said[:500]}")
                async for line in response.aiter_lines():
                    if heard := self._wire.hear(line):
                        yield heard
        except httpx2.TimeoutException as error:
            raise TimeoutError("the engine said nothing for too long") from error
        except httpx2.HTTPError as error:
            raise EngineError(f"the engine has gone: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def answers(launch: Launch, port: int, asked: Sequence[Ask], stall_seconds: float = 600) -> list[list[int]]:
    """The tokens of several answers, from a thread without an event loop. Raises as `Client.answer` does."""
    return asyncio.run(_answers(launch, port, asked, stall_seconds))


async def _answers(launch: Launch, port: int, asked: Sequence[Ask], stall_seconds: float) -> list[list[int]]:
    client, together = Client(launch, port, stall_seconds), asyncio.Semaphore(AT_ONCE)

    async def one(ask: Ask) -> list[int]:
        async with together, aclosing(client.answer(ask)) as heard:
            return [token async for said in heard for token in said.tokens]

    try:
        return list(await asyncio.gather(*map(one, asked)))
    finally:
        await client.close()


def _http(stall_seconds: float) -> "httpx2.AsyncClient":
    import httpx2

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=stall_seconds),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        trust_env=False,  # a proxy of the operator's leads elsewhere than to the loopback
    )
