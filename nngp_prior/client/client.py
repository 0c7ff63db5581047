"""Python client of the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior.client.base import BaseClient, Request
from nngp_prior.client.base_job import one_of
from nngp_prior.client.http import Http
from nngp_prior.client.jobs import RemoteJob
from nngp_prior.client.requests import Npy
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.job_names import JobNames
from nngp_prior.schemas.results.base import Results
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.experiment import ExperimentResults
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.schemas.specs.data import BlobData, Dataset
from nngp_prior.settings import ClientSettings

_PAGE = 200
_WHOLE = 64  # hexadecimal digits of a complete id


class Client(
    BaseClient[
        RemoteJob[Results],
        RemoteJob[BoundResults],
        RemoteJob[PosteriorResults],
        RemoteJob[Selection],
        RemoteJob[Samples],
        RemoteJob[SharpnessResults],
        RemoteJob[ExperimentResults],
    ]
):
    """Client for requests of all kinds, such as estimates and studies. The jobs it returns have been accepted.

    Refused requests raise the errors of this package (:mod:`nngp_prior.errors`). If the service is unreachable, too
    busy or out of disk space, requests are retried, after the time it states or with growing, jittered pauses.

    Args:
        url: URL of the service; default: ``NNGP_URL``, then the service that runs with this ``NNGP_HOME``, then
            http://127.0.0.1:8000.
        token: token of the service; default: ``NNGP_TOKEN``, then the file ``token`` in ``NNGP_HOME``.
        timeout: seconds for a response, and for retries; if nothing listens, the first request fails after five
            seconds.
        transport: transport of HTTPX, such as one with a proxy, a client certificate, or a mock of the service.
            Default: direct connections, and outside this machine the proxies of the environment.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 30,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        settings = ClientSettings()
        file = None if url else settings.address_file
        self._http = Http(url or settings.url, token or settings.token, timeout, file, transport)

    @property
    def url(self) -> str:
        """URL of the service."""
        return self._http.url

    @override
    def submit(self, request: Request, *, name: str | None = None, tags: Iterable[str] = ()) -> RemoteJob[Any]:
        params = _params(JobNames.of(name, tags))
        response = self._http.request("POST", f"/v1/{request.work}", params=params, json=request.non_default)
        return RemoteJob(self._http, response.json(), response.headers.get("ETag"))

    def cost(self, request: Request) -> dict[str, Any]:
        """Estimate the cost of a request without submitting it.

        Args:
            request: request for estimates, bounds, posteriors, a selection, samples, sharpness or a study.

        Returns:
            peak ``bytes``, rough ``seconds``, ``cached`` (True if the kernel is), ``rows`` and ``chunks``.
        """
        body = request.non_default
        return self._http.request("POST", f"/v1/{request.work}", params={"dry_run": "true"}, json=body).json()

    def describe(self, dataset: Dataset | BlobData) -> dict[str, Any]:
        """Describe a data set as loaded by the service.

        Args:
            dataset: specification of the data set.

        Returns:
            ``n``, ``input_shape`` and the ``classes`` that occur.
        """
        return self._http.request("POST", "/v1/datasets", json=dataset.non_default).json()

    @override
    def upload(self, array: ArrayLike) -> str:
        file = Npy(np.asarray(array))
        path = f"/v1/blobs/{file.sha256}"
        if self._http.request("HEAD", path, allow=(404,)).status_code == 404:
            headers = {"Content-Length": str(file.length), "Content-Type": "application/octet-stream"}
            self._http.request("PUT", path, headers=headers, content=file.pieces)
        return file.sha256

    @override
    def job(self, id: str) -> RemoteJob[Any]:
        if not re.fullmatch("[0-9a-f]{1,64}", id):
            raise InvalidInput("id", f"got {id!r}", "An id is hexadecimal digits, or their beginning.")
        if len(id) < _WHOLE:
            return one_of(self.jobs(), id)
        response = self._http.request("GET", f"/v1/jobs/{id}")
        return RemoteJob(self._http, response.json(), response.headers.get("ETag"))

    @override
    def jobs(
        self, state: str | None = None, *, name: str | None = None, tags: Iterable[str] = ()
    ) -> Iterator[RemoteJob[Any]]:
        params: dict[str, Any] | None = _params(JobNames.of(tags=tags), name=name, state=state, limit=_PAGE)
        path: str | None = "/v1/jobs"
        while path is not None:
            page = self._http.request("GET", path, params=params).json()
            for document in page["jobs"]:
                yield RemoteJob(self._http, document)
            following = next((link["href"] for link in page.get("links", []) if link["rel"] == "next"), None)
            # Same host, whatever URL the service states: the token is sent to no other.
            path = None if following is None else httpx2.URL(following).raw_path.decode()
            params = None

    @override
    def close(self) -> None:
        self._http.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


def _params(names: JobNames, **others: Any) -> dict[str, Any]:
    """Return the query parameters that have a value."""
    stated = {"name": names.name, "tag": names.tags, **others}
    return {key: value for key, value in stated.items() if value}
