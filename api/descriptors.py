"""File descriptors, which may be scarce (``ulimit -n``): detection and logging of their exhaustion."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import structlog

from api.logs import Seldom

_SPARE = 4  # descriptors required: a database connection takes three
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)
_UNOPENED = "unable to open database file"  # SQLite's message when none are left
_log = structlog.get_logger(__name__)
_seldom = Seldom(60.0)


def none_left(error: BaseException | None) -> bool:
    """True if an error is caused by a lack of file descriptors."""
    of_database = _UNOPENED in str(getattr(error, "orig", ""))
    return of_database or (isinstance(error, OSError) and error.errno in _NONE_LEFT)


def report() -> None:
    """Log the exhaustion, at most once a minute."""
    if _seldom.due():
        _log.error("no file descriptors are left: connections wait; raise the limit (ulimit -n)")


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle an event loop's error report; thousands of connections that cannot be accepted are logged as one line.

    Args:
        loop: the event loop.
        context: context of the report.
    """
    if none_left(context.get("exception")):
        report()
    else:
        loop.default_exception_handler(context)


def are_short() -> bool:
    """True if fewer than four descriptors are left."""
    opened = []
    try:
        for _ in range(_SPARE):
            opened.append(os.dup(2))
    except OSError:
        return True
    finally:
        for each in opened:
            os.close(each)
    return False
