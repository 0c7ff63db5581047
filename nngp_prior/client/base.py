"""Base class of clients, for a service or for this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from numpy.typing import ArrayLike

from nngp_prior.client.base_job import BaseJob
from nngp_prior.client.listing import as_completed
from nngp_prior.client.requests import sharpness_request, with_arrays, with_labelling
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.job_names import JobNames
from nngp_prior.schemas.measures.registry import DEFAULT
from nngp_prior.schemas.protocol_files import read_protocol
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.requests import (
    BIAS_STD,
    WEIGHT_STD,
    BoundRequest,
    EstimateRequest,
    ExperimentRequest,
    PosteriorRequest,
    SampleRequest,
    SelectionRequest,
    SharpnessRequest,
)
from nngp_prior.schemas.results.base import Results
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.experiment import ExperimentResults
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.architecture import ARCHITECTURES, Architecture, architecture_first
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions, estimator_of

_requires_architecture = architecture_first((*ARCHITECTURES, Mapping))
# Bounds and posteriors extend estimates.
Request = EstimateRequest | SelectionRequest | SampleRequest | SharpnessRequest | ExperimentRequest


J = TypeVar("J", bound=BaseJob[Any])

# Precise return types of a client's methods: Python cannot express J[Results], J[Samples], … for one type variable J.
EstimateJob = TypeVar("EstimateJob", bound=BaseJob[Results])
BoundJob = TypeVar("BoundJob", bound=BaseJob[BoundResults])
PosteriorJob = TypeVar("PosteriorJob", bound=BaseJob[PosteriorResults])
SelectionJob = TypeVar("SelectionJob", bound=BaseJob[Selection])
SampleJob = TypeVar("SampleJob", bound=BaseJob[Samples])
SharpnessJob = TypeVar("SharpnessJob", bound=BaseJob[SharpnessResults])
ExperimentJob = TypeVar("ExperimentJob", bound=BaseJob[ExperimentResults])


class BaseClient(
    ABC, Generic[EstimateJob, BoundJob, PosteriorJob, SelectionJob, SampleJob, SharpnessJob, ExperimentJob]
):
    """Requests of all kinds, such as estimates and studies; subclasses determine where they are computed."""

    @_requires_architecture
    def estimate(
        self,
        architecture: Architecture,
        X: Any,
        Y: Any,
        *,
        method: str | Estimator = "smc",
        seed: SeedLike = 0,
        name: str | None = None,
        tags: Iterable[str] = (),
        **options: Unpack[EstimatorOptions],
    ) -> EstimateJob:
        """Submit a request for log P of labellings under the prior of an infinitely wide network.

        Args:
            architecture: specification of the network.
            X: array of inputs, (n, d) or (n, height, width[, channels]), uploaded unless the service has it; or a data
                set such as ``Digits(n=1000)``.
            Y: labels -1 and +1, (n,) or (L, n), uploaded likewise; or labellings such as ``[Threshold(at=5)]``. An
                invalid row is refused in its result, and the others are computed.
            method: see :func:`nngp_prior.log_probability`.
            seed: random seed; the values equal the library's.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.
            **options: see :func:`nngp_prior.log_probability`.

        Returns:
            the job; the existing one if the request was submitted before.
        """
        names = JobNames.of(name, tags).model_dump()
        parts = {"architecture": architecture, "estimator": estimator_of(method, **options), "seed": seed}
        return self.submit(with_arrays(EstimateRequest, parts, X, Y, self.upload), **names)

    @_requires_architecture
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
        seed: SeedLike = 0,
        name: str | None = None,
        tags: Iterable[str] = (),
        **options: Unpack[EstimatorOptions],
    ) -> BoundJob:
        """Submit a request for PAC-Bayes bounds on the generalization error; each labelling is a training set's.

        Args:
            architecture: specification of the network.
            X: inputs of the examples, as in :meth:`estimate`; in random order if ``sizes`` are given.
            Y: labels, as in :meth:`estimate`.
            delta: see :func:`nngp_prior.pac_bayes_bounds`.
            gamma: see :func:`nngp_prior.pac_bayes_bounds`.
            estimator_share: see :func:`nngp_prior.pac_bayes_bounds`.
            sizes: numbers of leading examples to use, see :func:`nngp_prior.learning_curve`; default: all.
            method: see :func:`nngp_prior.log_probability`.
            seed: random seed; the values equal the library's.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.
            **options: see :func:`nngp_prior.log_probability`.

        Returns:
            the job; the existing one if the request was submitted before.
        """
        names = JobNames.of(name, tags).model_dump()
        parts = {"architecture": architecture, "estimator": estimator_of(method, **options), "seed": seed}
        parts |= {"delta": delta, "gamma": gamma, "estimator_share": estimator_share, "sizes": sizes}
        return self.submit(with_arrays(BoundRequest, parts, X, Y, self.upload), **names)

    @_requires_architecture
    def posterior(
        self,
        architecture: Architecture,
        X: Any,
        Y: Any,
        *,
        train: int,
        seed: SeedLike = 0,
        name: str | None = None,
        tags: Iterable[str] = (),
        **options: Any,
    ) -> PosteriorJob:
        """Submit a request for the posterior given labels of the first inputs, at the others.

        Args:
            architecture: specification of the network.
            X: training inputs, then test inputs, as in :meth:`estimate`.
            Y: labels of training and test inputs, as in :meth:`estimate`. Test labels serve to count errors, and change
                no probability.
            train: number of leading inputs used for training.
            seed: random seed; the values equal the library's.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.
            **options: see :func:`nngp_prior.posterior`.

        Returns:
            the job; the existing one if the request was submitted before.
        """
        names = JobNames.of(name, tags).model_dump()
        parts = {"architecture": architecture, "estimator": estimator_of("smc", **options), "seed": seed}
        return self.submit(with_arrays(PosteriorRequest, {**parts, "train": train}, X, Y, self.upload), **names)

    def select(
        self,
        family: Architecture | Sequence[Architecture],
        X: Any,
        y: Any,
        *,
        train: int | None = None,
        weight_std: tuple[float, float] = WEIGHT_STD,
        bias_std: tuple[float, float] = BIAS_STD,
        seed: SeedLike = 0,
        name: str | None = None,
        tags: Iterable[str] = (),
        **options: Any,
    ) -> SelectionJob:
        """Submit a request for a choice of architecture, σ_w and σ_b, see :func:`nngp_prior.select_architecture`.

        Args:
            family: architectures; the search starts at their σ_w and σ_b.
            X: training inputs, then test inputs, as in :meth:`estimate`.
            y: labels -1 and +1 of training and test inputs, (n,), or one labelling.
            train: number of leading inputs used for training; the others have no part in the choice. Default: all.
            weight_std: interval of σ_w.
            bias_std: interval of σ_b.
            seed: random seed; the values equal the library's.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.
            **options: see :func:`nngp_prior.select_architecture`.

        Returns:
            the job; the existing one if the request was submitted before. Its result is a ``Selection``.

        Raises:
            InvalidInput: if ``family`` is not a list, or another argument is invalid.
        """
        names = JobNames.of(name, tags).model_dump()
        members = [family] if isinstance(family, (*ARCHITECTURES, Mapping)) else family
        if not isinstance(members, Sequence):
            raise InvalidInput("family", f"got {type(family).__name__}", "Pass [FullyConnected(depth=1), …].")
        parts = {"family": tuple(members), "train": train, "weight_std": weight_std, "bias_std": bias_std}
        parts |= {"estimator": estimator_of("smc", **options), "seed": seed}
        return self.submit(with_labelling(SelectionRequest, parts, X, y, self.upload), **names)

    @_requires_architecture
    def sample(
        self,
        architecture: Architecture,
        X: Any,
        networks: int,
        *,
        seed: SeedLike = 0,
        source: str = "networks",
        top: int = 10,
        complexities: Sequence[str] = (),
        name: str | None = None,
        tags: Iterable[str] = (),
    ) -> SampleJob:
        """Submit a request for draws from the prior, counted by function, see :func:`nngp_prior.sample_functions`.

        Args:
            architecture: specification of the network, including its width or channels.
            X: inputs, as in :meth:`estimate`.
            networks: number of draws.
            seed: random seed.
            source: ``networks``, or ``gp`` for draws from the Gaussian process of infinite width.
            top: number of most frequent functions to list.
            complexities: complexity measures: ``lempel-ziv``, ``entropy``, ``critical-sample-ratio``.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.

        Returns:
            the job; the existing one if the request was submitted before.
        """
        names = JobNames.of(name, tags).model_dump()
        parts = {"architecture": architecture, "networks": networks, "seed": seed, "source": source, "top": top}
        return self.submit(
            with_arrays(SampleRequest, {**parts, "complexities": complexities}, X, None, self.upload), **names
        )

    @_requires_architecture
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
        seed: SeedLike = 0,
        name: str | None = None,
        tags: Iterable[str] = (),
    ) -> SharpnessJob:
        """Submit a request for the sharpness at a trained network, see :func:`nngp_prior.sharpness.measure`.

        Args:
            architecture: specification of the network, including its width or channels.
            parameters: parameters as returned by its ``init`` or by training, or pairs of weights and biases from the
                input on; arrays are uploaded unless the service has them.
            X: inputs, as in :meth:`estimate`.
            y: labels -1 and +1, (n,), or one labelling.
            measures: names, or specifications with options (:mod:`nngp_prior.schemas.measures.curvature`).
            loss: ``cross-entropy`` or ``mse``.
            dtype: ``float64`` or ``float32``.
            seed: random seed; the figures equal the library's.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.

        Returns:
            the job; the existing one if the request was submitted before. Its results have a ``report``.
        """
        names = JobNames.of(name, tags).model_dump()
        options = {"loss": loss, "dtype": dtype, "seed": seed}
        return self.submit(sharpness_request(architecture, parameters, X, y, measures, options, self.upload), **names)

    def experiment(
        self,
        protocol: Protocol | FrequencyProtocol | Mapping[str, Any] | str | Path,
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
    ) -> ExperimentJob:
        """Submit a request for a study, see :func:`nngp_prior.experiments.run`.

        Args:
            protocol: protocol, path of its TOML file, or name of a protocol of the package. Its data are a data set.
            name: see :meth:`submit`.
            tags: see :meth:`submit`.

        Returns:
            the job; the existing one if the request was submitted before. Its results have ``rows`` of the networks,
            or of functions, and ``verdicts`` on the quantities; ``job.report()`` is the report.
        """
        names = JobNames.of(name, tags).model_dump()
        found: Any = read_protocol(protocol) if isinstance(protocol, str | Path) else protocol
        return self.submit(ExperimentRequest(protocol=found), **names)

    @abstractmethod
    def submit(self, request: Request, *, name: str | None = None, tags: Iterable[str] = ()) -> Any:
        """Submit a request; everything except its labels is validated at once.

        Args:
            request: request for estimates, bounds, posteriors, a selection, samples, sharpness or a study.
            name: name of the job, up to 200 characters; it replaces the name of an existing job.
            tags: tags of the job, up to 50 characters each; they are added to those of an existing job, up to 20.

        Returns:
            the job; the existing one if the request was submitted before, also under another name.
        """

    @abstractmethod
    def upload(self, array: ArrayLike) -> str:
        """Upload an array, unless the service has it.

        Args:
            array: array of real numbers.

        Returns:
            its hash, for ``BlobData``, ``BlobLabellings`` and weights.
        """

    @abstractmethod
    def job(self, id: str) -> Any:
        """Get a job submitted before; of a service, by any client.

        Args:
            id: id of the job, or a unique prefix.

        Returns:
            the job.

        Raises:
            InvalidInput: if ``id`` is invalid, or matches no job or several.
        """

    @abstractmethod
    def jobs(self, state: str | None = None, *, name: str | None = None, tags: Iterable[str] = ()) -> Iterator[Any]:
        """Yield all jobs, newest first.

        Args:
            state: ``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``; default: all.
            name: text that the name contains; upper and lower case are equal.
            tags: tags that the job has, all of them.

        Yields:
            jobs.
        """

    def as_completed(self, jobs: Iterable[J], timeout: float | None = None) -> Iterator[J]:
        """Yield jobs as they end, see :func:`nngp_prior.client.as_completed`.

        Args:
            jobs: jobs of this client, or of any.
            timeout: seconds for all of them, from this call; default: no limit.

        Returns:
            iterator over the jobs, each once.
        """
        return as_completed(jobs, timeout)

    @abstractmethod
    def close(self) -> None:
        """Close connections, if there are any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
