"""Who looks after an engine that serves: when it dies or hangs it is started once more, then the server ends."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress

from images.inside.engine.process import Process
from images.inside.engine.relay import Relay
from images.inside.errors import CannotRunError
from images.inside.logs import log
from images.inside.service import Service
from images.inside.web import ApiError

RESTARTS = 1


class Keeper:
    """Watches one engine. Create it on the event loop.

    Args:
        service: said to be unready while there is no engine.
        relay: told where the engine is.
        process: the engine.
        failed: called with the reason when the engine has died for good.

    """

    def __init__(
        self, service: Service, relay: Relay, process: Process, failed: Callable[[BaseException], None]
    ) -> None:
        self._service, self._relay, self._process, self._failed = service, relay, process, failed
        self._loop = asyncio.get_running_loop()
        self._left, self._ended, self._looking = RESTARTS, False, False
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch(process)

    def look(self, hangs: bool) -> None:
        """See to an engine that failed or stalled: one that hangs, or says that it is unwell, is replaced."""
        if not self._looking and not self._ended:
            self._looking = True
            self._run(self._look(hangs))

    async def end(self) -> None:
        """End the engine with all that it started."""
        self._ended = True
        await asyncio.to_thread(self._process.end)

    async def _look(self, hangs: bool) -> None:
        process = self._process
        try:
            if hangs or not await asyncio.to_thread(process.healthy):
                log(logging.ERROR, "the engine is unwell and will be replaced")
                process.kill()
        finally:
            self._looking = False

    def _watch(self, process: Process) -> None:
        process.watch(lambda words: self._tell(process, words))

    def _tell(self, process: Process, words: str) -> None:
        """On the watching thread."""
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(lambda: self._run(self._died(process, words)))

    async def _died(self, process: Process, words: str) -> None:
        if self._ended or process is not self._process:
            return
        log(logging.ERROR, "the engine died", reason=words, restarts_left=self._left)
        self._service.pause()
        await self._relay.fail(
            ApiError(503, "the engine died; try again", code="engine_failed", headers={"retry-after": "10"})
        )
        if not self._left:
            self._failed(CannotRunError(f"{words}; it was started again before"))
            return
        self._left -= 1
        await self._restart()

    async def _restart(self) -> None:
        launch = self._process.launch
        try:
            self._process = await _aside(lambda: Process(launch))
        except CannotRunError as error:
            self._failed(error)
            return
        if self._ended:
            self._process.end()
            return
        await self._relay.resume(self._process.port)
        self._watch(self._process)
        self._service.begin()
        log(logging.WARNING, "the engine was started again")

    def _run(self, steps: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(steps)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _aside(start: Callable[[], Process]) -> Process:
    """Start an engine on a daemon thread: a slow start must not hold up a process that is told to end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Process] = loop.create_future()

    def run() -> None:
        try:
            started = start()
        except BaseException as error:  # noqa: BLE001  # whoever waits is told, whatever it was
            _settle(loop, done, error=error)
        else:
            _settle(loop, done, started)

    threading.Thread(target=run, name="engine start", daemon=True).start()
    return await done


def _settle(
    loop: asyncio.AbstractEventLoop,
    done: "asyncio.Future[Process]",
    started: Process | None = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if done.cancelled():
            return
        if started:
            done.set_result(started)
        elif error:
            done.set_exception(error)

    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
