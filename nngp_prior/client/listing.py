"""Several jobs: a table of them, and each as it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from nngp_prior.client.http import require_seconds
from nngp_prior.client.status import COLUMNS, Status, draw_progress
from nngp_prior.errors import NotFinished
from nngp_prior.schemas.table import Table, Tabular
from nngp_prior.schemas.text import number_of


class _Job(Protocol):
    def wait(self, timeout: float | None = None) -> bool: ...
    def _last_status(self) -> Status: ...


J = TypeVar("J", bound=_Job)


class Jobs(Tabular, list[J]):
    """List of jobs that is a table of their statuses, as of the last request of each; the table sends none.

    ``Jobs(client.jobs())`` has all jobs of a service and their current statuses.
    """

    @property
    def _statuses(self) -> list[Status]:
        return [job._last_status() for job in self]

    @override
    def _summary(self) -> str:
        states = Counter(status.state for status in self._statuses)
        counted = ", ".join(f"{count:,} {state}" for state, count in states.items())
        return f"{number_of(len(self), 'job')}: {counted}"

    @override
    def _table(self) -> Table:
        return Table(COLUMNS, self._statuses)

    @override
    def _draw(self, ax: Any) -> None:
        draw_progress(ax, self._statuses)


def as_completed(jobs: Iterable[J], timeout: float | None = None) -> Iterator[J]:
    """Yield jobs as they end, in any state; like :func:`concurrent.futures.as_completed`.

    Jobs of a service run at the same time. Those of :class:`nngp_prior.LocalClient` are computed here, one by one.

    Args:
        jobs: jobs of any clients; equal ones count once.
        timeout: seconds for all of them, from this call; default: no limit.

    Returns:
        iterator over the jobs, each once, ended ones first. If some have not ended in time it raises
        :class:`nngp_prior.errors.NotFinished`, a ``TimeoutError``; the jobs keep running.
    """
    require_seconds(timeout)
    until = float("inf") if timeout is None else time.monotonic() + timeout
    return _as_completed(list(dict.fromkeys(jobs)), until, timeout)


def _as_completed(waiting: list[J], until: float, timeout: float | None) -> Iterator[J]:
    while waiting:
        began = time.monotonic()
        still = []
        for job in waiting:
            if job.wait(0):
                yield job
            else:
                still.append(job)
        waiting = still
        left = until - time.monotonic()
        if waiting and left <= 0:
            pending = f"{number_of(len(waiting), 'job')} {'has' if len(waiting) == 1 else 'have'} not ended"
            raise NotFinished(f"timeout: {pending} after {timeout:g} s. They keep running: call again.")
        if waiting:  # jobs mostly end in order of submission; limit the share of time spent on status requests
            waiting[0].wait(min(max(1.0, 5 * (time.monotonic() - began)), left))
