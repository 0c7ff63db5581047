r"""Kernels as means over random finite networks, with error estimates.

.. math:: K̃(x, x') = \frac1M \sum_{r=1}^M K_r(x, x'),
    \qquad K_r(x, x') = σ_b^2 + \frac{σ_w^2}{U} \sum_{u=1}^U h_{ru}(x) h_{ru}(x')

with h the U units before the readout layer; or with h the outputs, without the variances (Novak et al. 2019, sec. 4).
It is the second moment of a network's output at the network's finite width. With one hidden layer that is the kernel at
infinite width; with more they differ by a multiple of 1/width.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
import psutil
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.cost import drawing_seconds, forward_seconds
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.architectures.weights import network_weights
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.executors import Common, SharedArray, checked_executor, task_runner
from nngp_prior.kernels.copies import distinct
from nngp_prior.kernels.disk import verified, write_verifiable
from nngp_prior.kernels.finite import Drawer, Features, features_of
from nngp_prior.numerics.blas import syrk
from nngp_prior.numerics.hashing import digest
from nngp_prior.progress import Progress, ProgressOption, shown
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.kernel import MonteCarlo
from nngp_prior.schemas.text import number_of

_COMPILING = 3.0  # seconds
_FLOPS = 5e10  # per second, of products of features


@dataclasses.dataclass(frozen=True)
class MonteCarloKernel:
    """A kernel with an error, and the data from which its error is computed.

    Attributes:
        specification: networks, features, seed, ridge.
        sums: sum of K_r over the networks of each batch, one matrix per batch.
        sizes: number of networks per batch.
        units: number of features per network.
        has_offset: True if a readout layer's biases add a constant, and 1 to the rank.
    """

    specification: MonteCarlo
    sums: tuple[Float[np.ndarray, "n n"], ...]
    sizes: Integer[np.ndarray, " batches"]
    units: int
    has_offset: bool

    def __repr__(self) -> str:
        return f"<MonteCarloKernel n = {len(self.sums[0]):,}, mean over {number_of(int(self.sizes.sum()), 'network')}>"

    @cached_property
    def K(self) -> Float[np.ndarray, "n n"]:
        """K̃ with its ridge, positive semi-definite up to rounding."""
        return self.weighted(np.ones(len(self.sums)))

    @cached_property
    def stderr(self) -> Float[np.ndarray, "n n"]:
        r"""Standard error of each entry of K̃, from the spread of the batches' means K̄_b, with B - 1 degrees of freedom.

        .. math:: \frac1{M (B - 1)} \sum_b m_b (K̄_b - K̃)^2 .
        """
        mean = self.weighted(np.ones(len(self.sums)), ridge=0.0)
        spread = np.zeros_like(mean)
        for size, total in zip(self.sizes, self.sums, strict=True):
            spread += size * np.square(total / size - mean)
        return np.sqrt(spread / ((len(self.sums) - 1) * self.sizes.sum()))

    @cached_property
    def diagonal_shift(self) -> float:
        """Diagonal shift due to the ridge."""
        c = self.specification.ridge
        return float(np.mean(self.K.diagonal())) * c / (1 + c)

    @property
    def rank_limit(self) -> int:
        """Upper limit on the rank of K̃ without its ridge: one per feature, and one for biases."""
        return min(len(self.sums[0]), int(self.sizes.sum()) * self.units + self.has_offset)

    @cached_property
    def spectrum(self) -> Float[np.ndarray, " n"]:
        """Eigenvalues of K scaled to unit diagonal, in ascending order."""
        scale = np.sqrt(self.K.diagonal())
        scale[scale == 0] = 1
        return np.linalg.eigvalsh(self.K / np.outer(scale, scale))

    @property
    def rank(self) -> int:
        """Numerical rank of K: number of eigenvalues above rounding level."""
        return int(np.sum(self.spectrum > len(self.spectrum) * np.finfo(np.float64).eps * self.spectrum[-1]))

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue of K scaled to unit diagonal; infinite if the rank is less than n."""
        return float(self.spectrum[-1] / self.spectrum[0]) if self.rank == len(self.spectrum) else float("inf")

    def weighted(self, weights: np.ndarray, ridge: float | None = None) -> Float[np.ndarray, "n n"]:
        """Return the kernel as a weighted mean over batches.

        Args:
            weights: one per batch; all 1 for K̃ itself, a bootstrap's counts for a kernel of the bootstrap.
            ridge: relative to the mean diagonal; default: the ridge of the specification.

        Returns:
            the mean, with its ridge.
        """
        K = np.zeros_like(self.sums[0])
        for weight, total in zip(weights, self.sums, strict=True):
            if weight:
                K += (weight / (weights @ self.sizes)) * total
        c = self.specification.ridge if ridge is None else ridge
        K[np.diag_indices(len(K))] += c * np.mean(K.diagonal())
        return K


@requires_architecture
def monte_carlo_kernel(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    monte_carlo: MonteCarlo | None = None,
    *,
    state: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> MonteCarloKernel:
    """Estimate the kernel of finite networks.

    Args:
        architecture: a specification, whose width or channels matter here, or a user's network.
        X: (n, …) inputs; convolutional networks take (n, height, width) or (n, height, width, channels).
        monte_carlo: number of networks, and their features.
        state: a folder to which each finished batch of networks is written, atomically and with a checksum; the same
            call finds it again, computes what is missing or damaged and has the same result bit for bit as one that
            was never interrupted. Matrices of batches then stay on disk. Files of other calls may share the folder.
        executor: executor whose workers compute the batches, with the same result up to rounding, and bit for bit with
            as many threads of BLAS; see :func:`nngp_prior.log_probabilities`. Default: this process.
        progress: True to show progress, or a callback, called after each group of networks, or each batch of an
            executor.

    Returns:
        the kernel, its standard errors, its rank and condition, and kernels for a bootstrap.

    Raises:
        InvalidInput: if inputs have a wrong shape, or a network's features are not finite, have a wrong shape, or are
            not a function of parameters and input alone.
        ResourceLimit: if the batches' matrices, or one network's features, do not fit into memory, or a worker of the
            executor died.
    """
    if executor is not None:
        checked_executor(executor)
    monte_carlo = monte_carlo or MonteCarlo()
    X = check_inputs("X", X, architecture)
    features = features_of(architecture, monte_carlo)
    first, place_of = distinct(X)
    batches = _batches(monte_carlo)
    folder = None if state is None else Path(state) / _identity(architecture, X, monte_carlo)
    with shown(progress, "kernel") as report, jax.enable_x64(True):
        drawer = Drawer(features, X[first], monte_carlo.seed, max(map(len, batches)))
        memory = _memory(len(X), drawer.units * drawer.group, 0 if folder else len(batches))
        paths = [folder and folder / f"batch-{place:05d}.npy" for place in range(len(batches))]
        sums = [path and _stored(path, len(X)) for path in paths]
        missing = [place for place, stored in enumerate(sums) if stored is None]
        done = monte_carlo.networks - sum(len(batches[place]) for place in missing)
        cost = None
        if missing and not isinstance(architecture, FromNetwork):
            seconds = _seconds(architecture, X[first].shape, drawer.units, monte_carlo.networks - done)
            cost = Cost(memory, seconds)
        if done or cost is not None:
            report(Progress("networks", done, monte_carlo.networks, cost))

        def tell(more: int) -> None:
            report(Progress("networks", done + more, monte_carlo.networks))

        if executor is None:
            found = ((place, _sum_of(batches[place], drawer, features, tell)) for place in missing)
        else:
            found = _sums_on(executor, architecture, X[first], monte_carlo, missing)
        for place, total in found:
            if len(first) < len(X):  # equal inputs have equal rows
                total = total[np.ix_(place_of, place_of)]
            path = paths[place]
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_verifiable(path, total, path.parent.name)
                total = np.load(path, mmap_mode="r")
            sums[place] = total
            done += len(batches[place])
            tell(0)
    sizes = np.array([len(batch) for batch in batches])
    return MonteCarloKernel(
        monte_carlo, tuple(each for each in sums if each is not None), sizes, drawer.units, features.offset > 0
    )


def _batches(monte_carlo: MonteCarlo) -> list[range]:
    """Return the network numbers of each batch; sizes differ by at most one."""
    count = min(monte_carlo.batches, monte_carlo.networks)
    cuts = [monte_carlo.networks * b // count for b in range(count + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(cuts)]


def _sums_on(
    executor: Executor,
    architecture: Architecture | FromNetwork,
    X: Float[np.ndarray, "n ..."],
    monte_carlo: MonteCarlo,
    places: list[int],
) -> Iterator[tuple[int, Float[np.ndarray, "n n"]]]:
    """Yield the sums of batches with their indices, from tasks of an executor, one each."""
    with task_runner(executor) as runner:
        array, common = runner.share(X), runner.common(architecture)
        for index, total in runner.run(_sum_there, [(common, array, monte_carlo, place) for place in places]):
            yield places[index], total


def _sum_there(
    architecture: Common[Architecture | FromNetwork], array: SharedArray, monte_carlo: MonteCarlo, place: int
) -> Float[np.ndarray, "n n"]:
    """Compute the sum of a batch in a worker."""
    with jax.enable_x64(True):
        drawer, features = _drawer_there(array, architecture.value, monte_carlo)  # pyright: ignore[reportArgumentType]
        return _sum_of(_batches(monte_carlo)[place], drawer, features, lambda _: None)


@functools.lru_cache(maxsize=1)
def _drawer_there(
    array: SharedArray, architecture: Architecture | FromNetwork, monte_carlo: MonteCarlo
) -> tuple[Drawer, Features]:
    features = features_of(architecture, monte_carlo)
    return Drawer(features, array.load(), monte_carlo.seed, max(map(len, _batches(monte_carlo)))), features


def _sum_of(batch: range, drawer: Drawer, features: Features, tell: Callable[[int], None]) -> Float[np.ndarray, "n n"]:
    """Return the sum of K_r over a batch, in float64 and always in the same order."""
    S = np.zeros((drawer.n, drawer.n), order="F")
    for start in range(batch.start, batch.stop, drawer.group):
        numbers = range(start, min(start + drawer.group, batch.stop))
        for H in drawer(numbers):
            syrk(features.scale / drawer.units, H.T, S, trans=True)
        if numbers.stop < batch.stop:
            tell(numbers.stop - batch.start)
    if not np.isfinite(S.diagonal()).all():
        i = int(np.argmin(np.isfinite(S.diagonal())))
        raise InvalidInput("X", f"the kernel of input {i} overflows", "Scale X or the weights down.")
    S += np.tril(S, -1).T
    S += len(batch) * features.offset
    return S.T


def _identity(architecture: Architecture | FromNetwork, X: np.ndarray, monte_carlo: MonteCarlo) -> str:
    """Return a hash of everything that the sums depend on: all but the ridge."""
    parts = architecture.content_hash, monte_carlo.model_copy(update={"ridge": 0.0}).content_hash, digest(X)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _stored(path: Path, n: int) -> Float[np.ndarray, "n n"] | None:
    """Read a batch written before; None if there is none, or it is damaged or cannot be read."""
    try:
        stored = verified(path)
    except OSError:
        return None
    return stored if stored is not None and stored.shape == (n, n) else None


def _memory(n: int, features: int, batches: int) -> int:
    """Return memory for the matrices of the batches and three more, and features of a group of networks; checked."""
    free = psutil.virtual_memory().available
    needed = 8 * n * ((batches + 3) * n + 2 * features)
    if needed > free:
        largest = int((((features**2 + (batches + 3) * free / 8) ** 0.5) - features) / (batches + 3))
        raise ResourceLimit(
            f"n: a Monte Carlo kernel of {n:,} inputs with {batches} batches in memory and {features:,} features takes "
            f"{needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free. Use at most {largest:,} inputs, fewer "
            "batches, or state=… (a folder), which keeps batches on disk."
        )
    return needed


def _seconds(architecture: Architecture, shape: tuple[int, ...], units: int, networks: int) -> float:
    """Estimate the time to draw networks, pass the inputs through them, and multiply their features."""
    weights = network_weights(architecture, shape[1:])
    products = shape[0] ** 2 * units / _FLOPS
    return _COMPILING + networks * (drawing_seconds(weights) + forward_seconds(weights, shape[0]) + products)
