"""The service, called from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import httpx2
import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.client.http import Http
from nngp_prior.client.jobs import RemoteJob
from nngp_prior.client.requests import (
    Npy,
    bound_request,
    estimate_request,
    posterior_request,
    sample_request,
    sharpness_request,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.bound_result import BoundResults
from nngp_prior.schemas.data import BlobData, Dataset
from nngp_prior.schemas.posterior_result import PosteriorResults
from nngp_prior.schemas.request import EstimateRequest, SampleRequest, SharpnessRequest
from nngp_prior.schemas.result import Results
from nngp_prior.schemas.sample_result import Samples
from nngp_prior.schemas.sharpness import DEFAULT
from nngp_prior.schemas.sharpness_result import SharpnessResults
from nngp_prior.settings import ClientSettings

_PAGE = 200


class Client:
    """A service of estimates, bounds, posteriors, samples and sharpness.

    What it refuses raises the errors of this package (:mod:`nngp_prior.errors`). Where no service answers, or it says
    that it is too busy or its disk is full, requests are made again, after as long as it says or after growing
    pauses with jitter.

    Args:
        url: of the service; ``NNGP_URL`` when absent, and then http://127.0.0.1:8000.
        token: that opens it; ``NNGP_TOKEN`` when absent, and then the file ``token`` in ``NNGP_HOME``.
        timeout: seconds for an answer, and for making a request again; the very first request is given up after five
            where nothing listens.
    """

    def __init__(self, url: str | None = None, token: str | None = None, timeout: float = 30) -> None:
        settings = ClientSettings()
        self._http = Http(url or settings.url, token or settings.token, timeout)

    @property
    def url(self) -> str:
        """Of the service."""
        return self._http.url

    def estimate(
        self, architecture: Architecture, X: Any, Y: Any, *, method: str = "smc", seed: int = 0, **options: Any
    ) -> RemoteJob[Results]:
        """Ask for log P of labellings under the prior of an infinitely wide network.

        Args:
            architecture: the specification of the network.
            X: an array of inputs, (n, d) or (n, height, width[, channels]), which is uploaded unless it is there; or a
                data set such as ``Digits(n=1000)``.
            Y: labels -1 and +1, (n,) or (L, n), which are uploaded; or labellings such as ``[Threshold(at=5)]``. A row
                that cannot be used is refused in its result, and the others are computed.
            method: as for :func:`nngp_prior.log_probability`.
            seed: of all random numbers; the values are those of the library.
            **options: as there.

        Returns:
            the job, which has been accepted; that of the same request, if there is one.
        """
        return self.submit(estimate_request(architecture, X, Y, method, seed, options, self.upload))

    def bound(
        self,
        architecture: Architecture,
        X: Any,
        Y: Any,
        *,
        delta: float = 0.05,
        gamma: float = 0.05,
        estimator_share: float = 0.1,
        sizes: Sequence[int] | None = None,
        method: str = "smc",
        seed: int = 0,
        **options: Any,
    ) -> RemoteJob[BoundResults]:
        """Ask for PAC-Bayes bounds on the generalization error, each labelling those of training examples.

        Args:
            architecture: the specification of the network.
            X: as for :meth:`estimate`: the inputs of the examples, in random order where there are ``sizes``.
            Y: as there.
            delta: as for :func:`nngp_prior.pac_bayes_bounds`.
            gamma: as there.
            estimator_share: as there.
            sizes: numbers of examples, the first ones each time, as for :func:`nngp_prior.learning_curve`; all when
                absent.
            method: as for :func:`nngp_prior.log_probability`.
            seed: as for :meth:`estimate`.
            **options: as for :func:`nngp_prior.log_probability`.

        Returns:
            the job, which has been accepted; that of the same request, if there is one.
        """
        bounds = {"delta": delta, "gamma": gamma, "estimator_share": estimator_share, "sizes": sizes}
        return self.submit(bound_request(architecture, X, Y, method, seed, options, self.upload, bounds))

    def posterior(
        self, architecture: Architecture, X: Any, Y: Any, *, train: int, seed: int = 0, **options: Any
    ) -> RemoteJob[PosteriorResults]:
        """Ask for the prior given labels of the first inputs, as :func:`nngp_prior.posterior` has it, at the others.

        Args:
            architecture: the specification of the network.
            X: as for :meth:`estimate`: training inputs, then test inputs.
            Y: as there: labels of training and test inputs. Those of test inputs are what errors are counted by, and
                change no probability.
            train: how many are training inputs.
            seed: of all random numbers; the values are those of the library.
            **options: as for :func:`nngp_prior.posterior`.

        Returns:
            the job, which has been accepted; that of the same request, if there is one.
        """
        return self.submit(posterior_request(architecture, X, Y, train, seed, options, self.upload))

    def sample(
        self,
        architecture: Architecture,
        X: Any,
        networks: int,
        *,
        seed: int = 0,
        source: str = "networks",
        top: int = 10,
        complexities: Sequence[str] = (),
    ) -> RemoteJob[Samples]:
        """Ask for draws from the prior, counted by function, as :func:`nngp_prior.sample_functions` counts them.

        Args:
            architecture: the specification of the network, whose width or channels matter here.
            X: as for :meth:`estimate`.
            networks: how many draws.
            seed: of all draws.
            source: ``networks``, or ``gp`` for draws from the Gaussian process of infinite width.
            top: how many functions to list, the most frequent ones.
            complexities: measures of them: ``lempel-ziv``, ``entropy``, ``critical-sample-ratio``.

        Returns:
            the job, which has been accepted; that of the same request, if there is one.
        """
        return self.submit(sample_request(architecture, X, networks, seed, source, top, complexities, self.upload))

    def sharpness(
        self,
        architecture: Architecture,
        parameters: Any,
        X: Any,
        y: Any,
        measures: Sequence[Any] = DEFAULT,
        *,
        loss: str = "cross-entropy",
        dtype: str = "float64",
        seed: int = 0,
    ) -> RemoteJob[SharpnessResults]:
        """Ask how flat the loss is at a trained network, as :func:`nngp_prior.sharpness.measure` does.

        Args:
            architecture: the specification of the network, whose width or channels matter here.
            parameters: as its ``init`` gives them, or training left them, or pairs of weights and biases from the input
                on; each array is uploaded unless it is there.
            X: as for :meth:`estimate`.
            y: n labels -1 and +1, or one labelling.
            measures: names, or specifications with options (:mod:`nngp_prior.schemas.sharpness`).
            loss: ``cross-entropy`` or ``mse``.
            dtype: ``float64`` or ``float32``.
            seed: of random vectors; the figures are those of the library.

        Returns:
            the job, which has been accepted; that of the same request, if there is one. Its results have a ``report``.
        """
        options = {"loss": loss, "dtype": dtype, "seed": seed}
        return self.submit(sharpness_request(architecture, parameters, X, y, measures, options, self.upload))

    def submit(self, request: EstimateRequest | SampleRequest | SharpnessRequest) -> RemoteJob[Any]:
        """Ask for what a request says.

        Args:
            request: of estimates, bounds, posteriors, samples or sharpness.

        Returns:
            the job, which has been accepted.
        """
        response = self._http.request("POST", f"/v1/{request.work}", json=request.differing)
        return RemoteJob(self._http, response.json(), response.headers.get("ETag"))

    def cost(self, request: EstimateRequest | SampleRequest | SharpnessRequest) -> dict[str, Any]:
        """What a request would take, without making it.

        Args:
            request: of estimates, bounds, posteriors, samples or sharpness.

        Returns:
            ``bytes`` at peak, rough ``seconds``, whether the kernel is ``cached``, ``rows`` and ``chunks``.
        """
        body = request.differing
        return self._http.request("POST", f"/v1/{request.work}", params={"dry_run": "true"}, json=body).json()

    def describe(self, dataset: Dataset | BlobData) -> dict[str, Any]:
        """What a data set turns out to be, where the service has it.

        Args:
            dataset: its specification.

        Returns:
            ``n``, ``input_shape`` and ``classes``, those that there are.
        """
        return self._http.request("POST", "/v1/datasets", json=dataset.differing).json()

    def upload(self, array: ArrayLike) -> str:
        """Make an array known to the service; what it has is not sent again.

        Args:
            array: of real numbers.

        Returns:
            its hash, for ``BlobData``, ``BlobLabellings`` and weights.
        """
        file = Npy(np.asarray(array))
        path = f"/v1/blobs/{file.sha256}"
        if self._http.request("HEAD", path, allow=(404,)).status_code == 404:
            headers = {"Content-Length": str(file.length), "Content-Type": "application/octet-stream"}
            self._http.request("PUT", path, headers=headers, content=file.pieces)
        return file.sha256

    def job(self, id: str) -> RemoteJob[Any]:
        """A job that was submitted before, here or elsewhere.

        Args:
            id: of it.

        Returns:
            the job.

        Raises:
            InvalidInput: that is no id.
        """
        if not re.fullmatch("[0-9a-f]{64}", id):
            raise InvalidInput("id", f"got {id!r}", "Give all 64 hexadecimal digits; jobs() has those that there are.")
        response = self._http.request("GET", f"/v1/jobs/{id}")
        return RemoteJob(self._http, response.json(), response.headers.get("ETag"))

    def jobs(self, state: str | None = None) -> Iterator[RemoteJob[Any]]:
        """The service's jobs, the newest first.

        Args:
            state: ``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``; all when absent.

        Yields:
            jobs, page by page.
        """
        params: dict[str, Any] | None = {"limit": _PAGE} | ({} if state is None else {"state": state})
        path: str | None = "/v1/jobs"
        while path is not None:
            page = self._http.request("GET", path, params=params).json()
            for document in page["jobs"]:
                yield RemoteJob(self._http, document)
            following = next((link["href"] for link in page.get("links", []) if link["rel"] == "next"), None)
            # Of the same service, whatever name it has for itself: the token goes nowhere else.
            path = None if following is None else httpx2.URL(following).raw_path.decode()
            params = None

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"
