"""Jobs of a service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx2
from typing_extensions import override

from nngp_prior.client.base_job import BaseJob
from nngp_prior.client.http import DROPPED, Http, require_seconds, seconds_after
from nngp_prior.client.status import ENDED, Status
from nngp_prior.errors import ServiceError
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.job_names import JobEdit
from nngp_prior.schemas.results.experiment import report_type
from nngp_prior.schemas.text import one_line

R = TypeVar("R")
_LONGEST_WAIT = 30.0  # seconds; the service's limit
_BETWEEN = 1.0  # seconds between requests answered at the job's next change
_PAUSES = (0.05, 2.0)  # seconds between other requests, first and longest


@dataclass(frozen=True)
class Event:
    """Event of a job.

    Attributes:
        id: increasing id; a stream resumes after the last one seen.
        type: ``accepted``, ``running``, ``progress``, ``rows``, ``lost`` or the final state.
        data: details.
    """

    id: str
    type: str
    data: Any

    def __repr__(self) -> str:
        return one_line(self)


class RemoteJob(BaseJob[R]):
    """Job of a service; created by methods of :class:`nngp_prior.Client`. Two of the same job are equal.

    Args:
        http: connection to the service.
        document: document of the job.
        etag: ETag of the document.
    """

    _after_timeout = "It keeps running: call again."

    def __init__(self, http: Http, document: dict[str, Any], etag: str | None = None) -> None:
        super().__init__(document["id"], document["kind"])
        self._http, self._status, self._etag = http, Status(document), etag
        self._path = f"/v1/jobs/{self.id}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteJob) and (self.id, self._http.url) == (other.id, other._http.url)

    def __hash__(self) -> int:
        return hash((self.id, self._http.url))

    @override
    def status(self) -> Status:
        self._ask(0)
        return self._status

    @property
    def last(self) -> Status:
        """Status as of the last request; sends none."""
        return self._status

    @override
    def _wait(self, timeout: float | None, progress: ProgressCallback) -> bool:
        require_seconds(timeout)
        until = float("inf") if timeout is None else time.monotonic() + timeout
        pause, longest = _PAUSES
        if not self._status.ended:  # before the first request, which waits for a change
            progress(replace(self._status.events[0], cost=self._status.cost))
        while True:
            left = until - time.monotonic()
            asked = self._ask(max(min(_LONGEST_WAIT, left), 0))
            for event in self._status.events:
                progress(event)
            if self._status.ended:
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            # After a few quick requests, even a job that changes often is requested only once a second.
            time.sleep(min(max(pause, asked or 0.0), left))
            pause = min(1.5 * pause, longest if asked is None else _BETWEEN)

    @override
    def results(self) -> Iterator[Any]:
        seen: set[int] = set()
        pause, longest = _PAUSES
        while True:
            ended = self._status.ended or self.status().ended
            before = len(seen)
            try:
                for row in self._rows() if ended or self._status.current > before else ():
                    place = row.get("place", row.get("labelling", 0))
                    if place not in seen:
                        seen.add(place)
                        yield self._reader.one(row)
                if ended:
                    return
            except (*DROPPED, json.JSONDecodeError) as error:  # restarted from the first row
                if len(seen) == before and pause >= longest:
                    raise self._http.unreachable(error) from None
            pause = _PAUSES[0] if len(seen) > before else min(1.5 * pause, longest)
            time.sleep(pause)

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Yield the events of the job, from its start; an interrupted stream is resumed.

        Args:
            after: id of the last event seen; it and earlier ones are omitted.

        Yields:
            events, until the job has ended.
        """
        last = None
        pause, longest = _PAUSES
        while last is None or last.type not in ENDED:
            headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
            if after is not None:
                headers["Last-Event-ID"] = after
            try:
                with self._http.stream(f"{self._path}/events", headers) as response:
                    for sent in httpx2.EventSource(response):
                        last = Event(sent.id, sent.event, sent.json() if sent.data else None)
                        after, pause = sent.id or after, _PAUSES[0]
                        yield last
            except httpx2.SSEError as error:  # a response, but no event stream
                raise self._http.unreachable(error) from None
            except DROPPED:
                pass
            if last is None and self.status().ended:  # all events were seen before
                return
            if last is None or last.type not in ENDED:
                time.sleep(pause)
                pause = min(1.5 * pause, longest)

    @override
    def report(self, kind: str = "html") -> str:
        return self._http.request("GET", f"{self._path}/report", headers={"Accept": report_type(kind)}).text

    @override
    def dismiss(self) -> Status:
        response = self._http.request("DELETE", self._path)
        self._etag = None
        if response.content:
            self._status = Status(response.json())
            return self._status
        return self.status()

    @override
    def _edit(self, edit: JobEdit) -> Status:
        response = self._http.request("PATCH", self._path, json=edit.model_dump(mode="json", exclude_unset=True))
        self._status, self._etag = Status(response.json()), response.headers.get("ETag")
        return self._status

    @override
    def _last_status(self) -> Status:
        return self._status

    @override
    def _all_results(self) -> R:
        document = self._http.request("GET", f"{self._path}/results", headers={"Accept": "application/json"}).json()
        return self._reader.all(document.pop("results"), document)

    def _ask(self, seconds: float) -> float | None:
        """Request the status; return the pause before the next request that the service suggests."""
        headers = {} if self._etag is None else {"If-None-Match": self._etag}
        wait = int(seconds)
        if wait:
            headers["Prefer"] = f"wait={wait}"
        response = self._http.request("GET", self._path, headers=headers, wait=wait, allow=(304,))
        if response.status_code != 304:
            self._status, self._etag = Status(response.json()), response.headers.get("ETag")
        return 0.0 if "Preference-Applied" in response.headers else seconds_after(response)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows available now."""
        headers = {"Accept": "application/x-ndjson"}
        try:
            with self._http.stream(f"{self._path}/results?partial=true", headers) as response:
                for line in response.iter_lines():
                    if line.strip():
                        yield json.loads(line)
        except ServiceError as error:
            if error.code != "result-not-ready":
                raise
