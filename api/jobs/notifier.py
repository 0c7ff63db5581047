"""Notification of coroutines about changes of jobs made by other threads."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.concurrency import run_in_threadpool

from api.jobs.models import OPEN, Event, Job, State
from api.jobs.table import JobTable
from api.problems import stopping


class _Feed:
    """State and events of a job, shared by its subscribers and read once per change."""

    def __init__(self) -> None:
        self.reading = asyncio.Lock()
        self.stale = True
        self.glance: tuple[State, int] | None = None
        self.events: list[Event] = []

    def add(self, events: list[Event]) -> None:
        """Append later events; those of an earlier attempt are dropped."""
        self.events += events
        starts = [i for i, event in enumerate(self.events) if event.type == "accepted"]
        del self.events[: max(starts, default=0)]


class Notifier:
    """Subscriptions of coroutines to jobs.

    Args:
        table: job table to watch.
    """

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._loop: asyncio.AbstractEventLoop | None = None  # event loop of the coroutines
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._feeds: dict[str, _Feed] = {}
        self._closing = False
        self._ignored: list[Callable[[], None]] = [
            table.listen(self._changed),
            table.listen_elsewhere(self._changed_elsewhere),
        ]

    def close(self) -> None:
        """Stop listening to the table."""
        while self._ignored:
            self._ignored.pop()()

    def stop_waiting(self) -> None:
        """Wake all waiting requests, and refuse further waits."""
        self._closing = True
        self._changed_elsewhere(None)

    @contextmanager
    def of(self, job_id: str) -> Iterator[asyncio.Event]:
        """Return an event set at each change of a job; clear it before reading the job.

        Args:
            job_id: id of the job.

        Yields:
            the event.
        """
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._feeds.pop(job_id, None)

    async def news(self, job_id: str, after: int) -> tuple[tuple[State, int] | None, list[Event]]:
        """Return the state and the later events of a job, for subscribers inside :meth:`of`.

        Args:
            job_id: id of the job.
            after: id of the last known event.

        Returns:
            state and version, None if there is no such job; and the later events.
        """
        feed = self._feeds.setdefault(job_id, _Feed())
        async with feed.reading:
            if feed.stale:
                feed.stale = False  # before reading: a change meanwhile makes it stale again
                last = feed.events[-1].id if feed.events else 0
                try:
                    # First the state: events precede a final one.
                    feed.glance = await run_in_threadpool(self._table.glance, job_id)
                    feed.add(await run_in_threadpool(self._table.events, job_id, last))
                except BaseException:
                    feed.stale = True
                    raise
        return feed.glance, feed.events[bisect_right(feed.events, after, key=lambda event: event.id) :]

    async def ended(self, job_id: str, seconds: float) -> Job | None:
        """Wait for the end of a job.

        Args:
            job_id: id of the job.
            seconds: timeout, after which the job is returned as it is.

        Returns:
            the job.
        """
        return await self._until(job_id, seconds, lambda state, _: state not in OPEN)

    async def after(self, known: Job, seconds: float) -> Job:
        """Wait for a change of a job; one that has ended is returned at once.

        Args:
            known: known version of the job.
            seconds: timeout, after which the job is returned as it is.

        Returns:
            the job.
        """
        if known.state not in OPEN:
            return known
        return await self._until(known.id, seconds, lambda _, version: version != known.version) or known

    async def _until(self, job_id: str, seconds: float, wanted: Callable[[State, int], bool]) -> Job | None:
        until = time.monotonic() + seconds
        with self.of(job_id) as changed:
            while True:
                changed.clear()
                found = await run_in_threadpool(self._table.glance, job_id)
                left = until - time.monotonic()
                if found is None or wanted(*found) or left <= 0:
                    return await run_in_threadpool(self._table.get, job_id)
                if self._closing:
                    raise stopping()
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)

    def _changed(self, job_id: str) -> None:
        # A coroutine that subscribes later reads the table itself.
        if job_id in self._waiting and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, job_id)

    def _changed_elsewhere(self, job_id: str | None) -> None:
        for each in list(self._waiting) if job_id is None else [job_id]:
            self._changed(each)

    def _wake(self, job_id: str) -> None:
        if job_id in self._feeds:
            self._feeds[job_id].stale = True
        for event in self._waiting.get(job_id, ()):
            event.set()
