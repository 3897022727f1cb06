"""Logs as JSON lines on stderr: one object a line, `time`, `level` and `event` first. Never a request's contents."""

import logging
import sys
import time
from typing import Any

import msgspec

logger = logging.getLogger("modelyard")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: its message as the event, then what it carries as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str) -> None:
    """Send this process's logs to stderr from `level` up; the HTTP server's own only from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())


def log(level: int, event: str, **fields: object) -> None:
    """Write one line."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})
