"""What clients and their jobs have in common, whoever computes: a service, or this process."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from numpy.typing import ArrayLike

from nngp_prior.client.requests import sharpness_request, with_arrays
from nngp_prior.client.result_readers import reader_of
from nngp_prior.client.status import Status
from nngp_prior.errors import InvalidInput, NotFinished
from nngp_prior.progress import ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.measures.registry import DEFAULT
from nngp_prior.schemas.requests import BoundRequest, EstimateRequest, PosteriorRequest, SampleRequest, SharpnessRequest
from nngp_prior.schemas.results.base import Results
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions, estimator_of

R = TypeVar("R")
Request = EstimateRequest | SampleRequest | SharpnessRequest  # bounds and posteriors are estimates with more to them


J = TypeVar("J", bound="BaseJob[Any]")


class BaseJob(ABC, Generic[R]):
    """A request and what has come of it; the methods of clients make them.

    Args:
        id: of the job.
        work: the kind of its request.

    Attributes:
        id: of the job; the same for the same request.
    """

    _goes_on = ""  # what becomes of a job that is not waited for any longer

    def __init__(self, id: str, work: str) -> None:
        self.id = id
        self._reader = reader_of(work)

    @abstractmethod
    def status(self) -> Status:
        """Where the job stands now.

        Returns:
            state, rows, and what went wrong.
        """

    def wait(self, timeout: float | None = None, *, progress: ProgressOption = None) -> bool:
        """Wait until the job has ended, in whatever state; in process, compute what is left.

        Args:
            timeout: seconds; default: no limit. In process no other row is begun afterwards, and none with ``0``.
            progress: True to show it, or a callback.

        Returns:
            False if it has not ended in time.
        """
        with shown(progress, f"job {self.id[:12]}", rows=True) as tell:
            return self._wait(timeout, tell)

    def result(self, timeout: float | None = None, *, progress: ProgressOption = None) -> R:
        """Wait for the job and get all its results.

        Args:
            timeout: as for :meth:`wait`.
            progress: as for :meth:`wait`.

        Returns:
            ``Results``, ``BoundResults`` or ``PosteriorResults``: one for each labelling, in their order; ``Samples``
            of draws; ``SharpnessResults``: one for each measure.

        Raises:
            NotFinished: it has not ended in time; what was computed is kept. Ask again, here or with ``client.job``.
                Of a job that failed or was dismissed another :class:`nngp_prior.errors.NngpPriorError` says so.
        """
        if not self.wait(timeout, progress=progress):
            stands = f"has not ended after {timeout:g} s ({self._last_status().done})"
            raise NotFinished(f"timeout: job {self.id} {stands}. {self._goes_on}")
        return self._all_results()

    @abstractmethod
    def results(self) -> Iterator[Any]:
        """Results, each as soon as it is there.

        Yields:
            each labelling's, or measure's, once, in no particular order; ``Samples`` of draws.
        """

    @abstractmethod
    def dismiss(self) -> Status:
        """Stop the job; rows that have results are kept for another attempt.

        Returns:
            where it stands now.
        """

    @abstractmethod
    def _wait(self, timeout: float | None, progress: ProgressCallback) -> bool:
        """As :meth:`wait`, with a callback."""

    @abstractmethod
    def _last_status(self) -> Status:
        """Where it stood when somebody looked last."""

    @abstractmethod
    def _all_results(self) -> R:
        """Of a job that has ended."""

    def __repr__(self) -> str:
        status = self._last_status()
        return f"<{type(self).__name__} {self.id[:12]} {status.state}, {status.done}>"


def one_of(jobs: Iterable[J], beginning: str) -> J:
    """Find a job by the beginning of its id.

    Args:
        jobs: to look among.
        beginning: of the id.

    Returns:
        the job.

    Raises:
        InvalidInput: none has that beginning, or more than one.
    """
    found = list(itertools.islice((job for job in jobs if job.id.startswith(beginning)), 2))
    if len(found) != 1:
        problem = f"{'no job has' if not found else 'more than one job has'} an id that begins with {beginning!r}"
        raise InvalidInput("id", problem, "Look at those that there are: jobs(), or jobs list.")
    return found[0]


# What a client's methods return, as narrow as it is: Python has no way to say J[Results], J[Samples], … of one J.
EstimateJob = TypeVar("EstimateJob", bound=BaseJob[Results])
BoundJob = TypeVar("BoundJob", bound=BaseJob[BoundResults])
PosteriorJob = TypeVar("PosteriorJob", bound=BaseJob[PosteriorResults])
SampleJob = TypeVar("SampleJob", bound=BaseJob[Samples])
SharpnessJob = TypeVar("SharpnessJob", bound=BaseJob[SharpnessResults])


class BaseClient(ABC, Generic[EstimateJob, BoundJob, PosteriorJob, SampleJob, SharpnessJob]):
    """Estimates, bounds, posteriors, samples and sharpness; subclasses say who computes them."""

    def estimate(
        self,
        architecture: Architecture,
        X: Any,
        Y: Any,
        *,
        method: str | Estimator = "smc",
        seed: int = 0,
        **options: Unpack[EstimatorOptions],
    ) -> EstimateJob:
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
            the job; that of the same request, if there is one.
        """
        parts = {"architecture": architecture, "estimator": estimator_of(method, **options), "seed": seed}
        return self.submit(with_arrays(EstimateRequest, parts, X, Y, self.upload))

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
        method: str | Estimator = "smc",
        seed: int = 0,
        **options: Unpack[EstimatorOptions],
    ) -> BoundJob:
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
            the job; that of the same request, if there is one.
        """
        parts = {"architecture": architecture, "estimator": estimator_of(method, **options), "seed": seed}
        parts |= {"delta": delta, "gamma": gamma, "estimator_share": estimator_share, "sizes": sizes}
        return self.submit(with_arrays(BoundRequest, parts, X, Y, self.upload))

    def posterior(
        self, architecture: Architecture, X: Any, Y: Any, *, train: int, seed: int = 0, **options: Any
    ) -> PosteriorJob:
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
            the job; that of the same request, if there is one.
        """
        parts = {"architecture": architecture, "estimator": estimator_of("smc", **options), "seed": seed}
        return self.submit(with_arrays(PosteriorRequest, {**parts, "train": train}, X, Y, self.upload))

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
    ) -> SampleJob:
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
            the job; that of the same request, if there is one.
        """
        parts = {"architecture": architecture, "networks": networks, "seed": seed, "source": source, "top": top}
        return self.submit(with_arrays(SampleRequest, {**parts, "complexities": complexities}, X, None, self.upload))

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
    ) -> SharpnessJob:
        """Ask how flat the loss is at a trained network, as :func:`nngp_prior.sharpness.measure` does.

        Args:
            architecture: the specification of the network, whose width or channels matter here.
            parameters: as its ``init`` gives them, or training left them, or pairs of weights and biases from the input
                on; each array is uploaded unless it is there.
            X: as for :meth:`estimate`.
            y: n labels -1 and +1, or one labelling.
            measures: names, or specifications with options (:mod:`nngp_prior.schemas.measures.curvature`).
            loss: ``cross-entropy`` or ``mse``.
            dtype: ``float64`` or ``float32``.
            seed: of random vectors; the figures are those of the library.

        Returns:
            the job; that of the same request, if there is one. Its results have a ``report``.
        """
        options = {"loss": loss, "dtype": dtype, "seed": seed}
        return self.submit(sharpness_request(architecture, parameters, X, y, measures, options, self.upload))

    @abstractmethod
    def submit(self, request: Request) -> Any:
        """Ask for what a request says; all of it but its labels is checked at once.

        Args:
            request: of estimates, bounds, posteriors, samples or sharpness.

        Returns:
            the job; that of the same request, if there is one.
        """

    @abstractmethod
    def upload(self, array: ArrayLike) -> str:
        """Make an array known; what is there is not sent again.

        Args:
            array: of real numbers.

        Returns:
            its hash, for ``BlobData``, ``BlobLabellings`` and weights.
        """

    @abstractmethod
    def job(self, id: str) -> Any:
        """A job that was submitted before; to a service, here or elsewhere.

        Args:
            id: of it, or the beginning of it that no other job has.

        Returns:
            the job.

        Raises:
            InvalidInput: that is no id, or there is no such job, or more than one.
        """

    @abstractmethod
    def jobs(self, state: str | None = None) -> Iterator[Any]:
        """All jobs, the newest first.

        Args:
            state: ``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``; all when absent.

        Yields:
            jobs.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections, where there are any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
