"""Base class of jobs, of a service or of this process."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from typing_extensions import override

from nngp_prior.client.result_readers import reader_of
from nngp_prior.client.status import COLUMNS, Status, draw_progress
from nngp_prior.errors import InvalidInput, NotFinished
from nngp_prior.progress import ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.job_names import JobEdit, as_tags
from nngp_prior.schemas.table import Table, Tabular

R = TypeVar("R")
J = TypeVar("J", bound="BaseJob[Any]")


class BaseJob(Tabular, Generic[R]):
    """Request and its results; created by methods of clients. Its table and plot are of its status, not of its results.

    Args:
        id: id of the job.
        work: kind of the request.

    Attributes:
        id: id of the job; equal for equal requests.
    """

    _after_timeout = ""  # advice in the message of a timeout

    def __init__(self, id: str, work: str) -> None:
        self.id = id
        self._reader = reader_of(work)

    @property
    def name(self) -> str | None:
        """Name of the job as of the last request; None if there is none."""
        return self._last_status().name

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the job as of the last request, in alphabetical order."""
        return self._last_status().tags

    @abstractmethod
    def status(self) -> Status:
        """Get the current status.

        Returns:
            state, rows, and the error if there is one.
        """

    def wait(self, timeout: float | None = None, *, progress: ProgressOption = None) -> bool:
        """Wait for the job to end, in any state; in process, compute the remaining rows.

        Args:
            timeout: seconds; default: no limit. In process, no row is started after it, and none with ``0``.
            progress: True to show progress, or a callback.

        Returns:
            False if the job has not ended in time.
        """
        with shown(progress, self._last_status().title, rows=True) as tell:
            return self._wait(timeout, tell)

    def result(self, timeout: float | None = None, *, progress: ProgressOption = None) -> R:
        """Wait for the job and get all its results.

        Args:
            timeout: see :meth:`wait`.
            progress: see :meth:`wait`.

        Returns:
            ``Results``, ``BoundResults`` or ``PosteriorResults``, one per labelling in order; a ``Selection``;
            ``Samples`` of draws; ``SharpnessResults``, one per measure; ``ExperimentResults`` of a study.

        Raises:
            NotFinished: if the job has not ended in time; computed results are kept. Call again, here or through
                ``client.job``. A failed or dismissed job raises another :class:`nngp_prior.errors.NngpPriorError`.
        """
        if not self.wait(timeout, progress=progress):
            stands = f"has not ended after {timeout:g} s ({self._last_status().done})"
            raise NotFinished(f"timeout: job {self.id} {stands}. {self._after_timeout}")
        return self._all_results()

    @abstractmethod
    def results(self) -> Iterator[Any]:
        """Yield results as soon as they are available.

        Yields:
            each labelling's, candidate's, measure's or task's result once, in no particular order; ``Samples`` of
            draws.
        """

    @abstractmethod
    def report(self, kind: str = "html") -> str:
        """Get the report of a finished study.

        Args:
            kind: ``html``, one file that needs no other; ``markdown``; or ``csv``, the rows.

        Returns:
            content of the file. A job of another kind, or one that is not finished, raises a
            :class:`nngp_prior.errors.NngpPriorError`.
        """

    @abstractmethod
    def dismiss(self) -> Status:
        """Stop the job; finished rows are kept for another attempt.

        Returns:
            the current status.
        """

    def edit(self, *, name: str | None = None, add_tags: Iterable[str] = (), remove_tags: Iterable[str] = ()) -> Status:
        """Change the name or the tags of the job, in any state.

        Args:
            name: new name, up to 200 characters; ``""``: no name; default: unchanged.
            add_tags: tags to add, up to 50 characters each; a job has up to 20.
            remove_tags: tags to remove; others than the job has are ignored.

        Returns:
            the current status.
        """
        renamed = {} if name is None else {"name": name or None}
        return self._edit(JobEdit(**renamed, add_tags=as_tags(add_tags), remove_tags=as_tags(remove_tags)))

    @abstractmethod
    def _edit(self, edit: JobEdit) -> Status:
        """Implement :meth:`edit`, with a valid change."""

    @abstractmethod
    def _wait(self, timeout: float | None, progress: ProgressCallback) -> bool:
        """Implement :meth:`wait`, with a callback."""

    @abstractmethod
    def _last_status(self) -> Status:
        """Status as of the last request; sends none."""

    @abstractmethod
    def _all_results(self) -> R:
        """Return the results of a job that has ended."""

    @override
    def _summary(self) -> str:
        status = self._last_status()
        return f"{self.id[:12]} {status.state}, {status.done}"

    @override
    def _table(self) -> Table:
        return Table(COLUMNS, [self._last_status()])

    @override
    def _draw(self, ax: Any) -> None:
        draw_progress(ax, [self._last_status()])


def one_of(jobs: Iterable[J], beginning: str) -> J:
    """Find a job by a prefix of its id.

    Args:
        jobs: jobs to search.
        beginning: prefix of the id.

    Returns:
        the job.

    Raises:
        InvalidInput: if no job or several jobs have that prefix.
    """
    found = list(itertools.islice((job for job in jobs if job.id.startswith(beginning)), 2))
    if len(found) != 1:
        problem = f"{'no job has' if not found else 'more than one job has'} an id that begins with {beginning!r}"
        raise InvalidInput("id", problem, "List the jobs for their ids.")
    return found[0]
