"""Logs: JSON lines on stderr, with the ids of the request and of the job concerned."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TextIO

import structlog

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


class _Stderr(logging.StreamHandler[TextIO]):
    """Handler that writes to the current ``sys.stderr``."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


class Seldom:
    """Rate limiter for log lines.

    Args:
        seconds: shortest interval between two lines.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, 0.0
        self._lock = threading.Lock()

    def due(self) -> bool:
        """True at most once per interval."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._seconds
            return True


def _as_debug(record: logging.LogRecord) -> bool:
    """Demote uvicorn's line per request to debug level, for which uvicorn has no setting."""
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def configure(level: int = logging.INFO) -> None:
    """Send all logs, uvicorn's included, to stderr; idempotent.

    Args:
        level: lowest level that is logged.
    """
    common = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").filters = [_as_debug]
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # one line per request made by this process is noise
    root = logging.getLogger()
    root.setLevel(level)
    if any(isinstance(handler, _Stderr) for handler in root.handlers):
        return
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root.addHandler(handler)
