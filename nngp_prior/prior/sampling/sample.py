"""Draws of functions from a prior, and their counts; the draws do not depend on how the work is divided."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from jaxtyping import Float, Integer, UInt8
from numpy.typing import ArrayLike

from nngp_prior import kernels
from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.executors import Common, SharedArray, TaskRunner, checked_executor, task_runner
from nngp_prior.numerics.checkpoint import Checkpoint
from nngp_prior.numerics.threads import cores, on_all_cores, one_thread_blas
from nngp_prior.numerics.whole_files import writable
from nngp_prior.prior.sampling.cost import sampling_cost
from nngp_prior.prior.sampling.counts import FunctionCounts
from nngp_prior.prior.sampling.gaussian import GaussianDraws
from nngp_prior.prior.sampling.networks import FullyConnectedNetworks, JaxNetworks
from nngp_prior.prior.sampling.packing import Tally, counted, pack, ranked
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected

SOURCES = ("networks", "gp")
# Sources of independent draws from a prior, in mutually independent blocks.
_Draws = FullyConnectedNetworks | JaxNetworks | GaussianDraws
_ROUND = 8  # blocks per core between two readings of the clock
_TASKS, _SECONDS = 64, 2.0  # tasks of an executor between two readings of the clock, and target time of each


class _Counted(NamedTuple):
    """Counts kept of a block of draws."""

    functions: UInt8[np.ndarray, "m bytes"]
    counts: Integer[np.ndarray, " m"]
    draws: int
    undecided: int
    zeros: Integer[np.ndarray, " n"]


@requires_architecture
def sample_functions(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    networks: int,
    *,
    seed: SeedLike = 0,
    source: str = "networks",
    path: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> FunctionCounts:
    """Draw networks at initialisation, label the inputs by the signs of their outputs, and count the functions.

    Args:
        architecture: a specification, whose width or channels matter here, or a user's network.
        X: (n, …) inputs.
        networks: number of draws.
        seed: random seed; the first draws are the same for any number of draws.
        source: ``networks``, or ``gp`` for draws from the Gaussian process with the kernel of infinite width.
        path: path of a ``.npz`` file, to which results are saved every few seconds; the same call resumes from it, also
            with more networks, and has the same result bit for bit as one that was never interrupted.
        executor: executor whose workers draw, with the same result; see :func:`nngp_prior.log_probabilities`. Default:
            this process.
        progress: True to show progress, or a callback, called with the expected cost and with the number of draws.

    Returns:
        the functions and their counts; see ``FunctionCounts`` for outputs that are exactly 0.

    Raises:
        InvalidInput: if an argument is invalid, such as inputs at which every output is 0, or a file of other draws.
        DataUnavailable: if the file is damaged.
        ResourceLimit: if the distinct functions no longer fit into memory; the file holds those until
            then. If a worker of the executor died.
    """
    if not isinstance(networks, int) or isinstance(networks, bool) or not 1 <= networks < 2**32:
        raise InvalidInput("networks", f"got {networks!r}", "Pass a number of draws, an integer from 1 to 2³² - 1.")
    seed = checked_seed(seed)
    if source not in SOURCES:
        raise InvalidInput("source", f"got {source!r}", f"Choose one of {', '.join(SOURCES)}.")
    X = check_inputs("X", X, architecture)
    _refuse_zero_inputs(architecture, X)
    if executor is not None:
        checked_executor(executor)
    draws = None if source == "gp" else _networks(architecture, X, networks, seed)
    about = _about(architecture, X, seed, source, "gp" if draws is None else draws.stream)
    path = writable("path", path)
    before = None if path is None or not path.exists() else _before(path, about, networks)
    if before is not None and before.draws == networks:
        return before
    left = networks - (0 if before is None else before.draws)
    with shown(progress, "draws") as tell, one_thread_blas():  # products have the same bits on any number of cores
        if not isinstance(architecture, FromNetwork):
            tell(Progress(source, networks - left, networks, sampling_cost(architecture, X.shape, left, source)))
        given = kernels.kernel(architecture, X, executor=executor) if draws is None else X
        if executor is None:
            draws = draws or GaussianDraws(given, seed)
            return _sample(_InProcess(draws), networks, len(X), about, before, path, tell)
        block = GaussianDraws.block_of(len(X)) if draws is None else draws.block
        size = max(1, round(_SECONDS / _seconds(architecture, X, block, source)))
        with task_runner(executor) as runner:
            common = runner.share(given), runner.common(architecture), networks, seed, source
            return _sample(_OnExecutor(runner, common, block, size), networks, len(X), about, before, path, tell)


class _InProcess:
    """Counts of draws by this process, several blocks side by side if their source allows it."""

    def __init__(self, draws: _Draws) -> None:
        self._draws, self._threads = draws, None if draws.parallel else 1
        self.block, self.blocks = draws.block, _ROUND * cores() if draws.parallel else 1

    def __call__(self, parts: list[range]) -> Iterator[_Counted]:
        return (part for _, part in on_all_cores(self._one, parts, self._threads))

    def _one(self, numbers: range) -> _Counted:
        return _counted(_drawn(self._draws, numbers))


class _OnExecutor:
    """Counts of draws by the workers of an executor, in tasks of several blocks."""

    def __init__(self, runner: TaskRunner, common: tuple[Any, ...], block: int, size: int) -> None:
        self._runner, self._common, self._size = runner, common, size
        self.block, self.blocks = block, _TASKS * size

    def __call__(self, parts: list[range]) -> Iterator[_Counted]:
        tasks = [(*self._common, parts[first : first + self._size]) for first in range(0, len(parts), self._size)]
        return (part for _, part in self._runner.run(_count_there, tasks))


def _count_there(
    array: SharedArray,
    architecture: Common[Architecture | FromNetwork],
    networks: int,
    seed: int,
    source: str,
    parts: list[range],
) -> _Counted:
    """Count draws in a worker, of the inputs in the array or, from the Gaussian process, with the kernel in it."""
    n = array.shape[0]
    tally = Tally(-(-n // 8))
    zeros, undecided = np.zeros(n, dtype=np.int64), 0
    with one_thread_blas():
        draws = _draws_there(array, architecture.value, networks, seed, source)  # pyright: ignore[reportArgumentType]
        for part in (_counted(_drawn(draws, numbers)) for numbers in parts):
            tally.add(part.functions, part.counts)
            zeros += part.zeros
            undecided += part.undecided
    return _Counted(*tally.total(), sum(map(len, parts)), undecided, zeros)


@functools.lru_cache(maxsize=1)
def _draws_there(
    array: SharedArray, architecture: Architecture | FromNetwork, networks: int, seed: int, source: str
) -> _Draws:
    given = array.load()
    return GaussianDraws(given, seed) if source == "gp" else _networks(architecture, given, networks, seed)


def _drawn(draws: _Draws, numbers: range) -> Float[np.ndarray, "draws n"]:
    """Return the outputs of draws within one block."""
    first = numbers.start // draws.block * draws.block
    return draws(numbers.start // draws.block)[numbers.start - first : numbers.stop - first]


def _seconds(architecture: Architecture | FromNetwork, X: np.ndarray, draws: int, source: str) -> float:
    """Expected time of some draws in one process; that of a user's network is unknown."""
    if isinstance(architecture, FromNetwork):
        return _SECONDS
    many, none = (sampling_cost(architecture, X.shape, count, source).seconds for count in (1000 * draws, 1))
    return max((many - none) / 1000, 1e-6)


def _sample(
    count: _InProcess | _OnExecutor,
    networks: int,
    n: int,
    about: dict[str, Any],
    before: FunctionCounts | None,
    path: Path | None,
    report: ProgressCallback,
) -> FunctionCounts:
    tally, zeros = Tally(-(-n // 8)), np.zeros(n, dtype=np.int64)
    done = undecided = 0
    if before is not None:
        tally.add(before.functions, before.counts)
        zeros, done, undecided = zeros + before.zeros, before.draws, before.undecided

    def result() -> FunctionCounts:
        return FunctionCounts(*ranked(*tally.total()), n, done, undecided, zeros.copy(), about)

    checkpoint = Checkpoint(path, lambda path: result().save(path))
    while done < networks:
        finished = done
        for part in count(_parts(done, networks, count.block, count.blocks)):
            _require_memory(tally, len(part.functions), done)
            tally.add(part.functions, part.counts)
            zeros += part.zeros
            undecided += part.undecided
            finished += part.draws
            report(Progress(about["source"], finished, networks))
        done = finished  # these blocks and all before them
        if done < networks:
            checkpoint.save_if_due()
    checkpoint.save()
    return result()


def _parts(done: int, networks: int, block: int, most: int) -> list[range]:
    """Return ranges of the next draws, each within one block."""
    first = done // block
    cuts = [done, *(min(b * block, networks) for b in range(first + 1, first + 1 + most))]
    return [range(start, stop) for start, stop in itertools.pairwise(cuts) if start < stop]


def _counted(f: Float[np.ndarray, "draws n"]) -> _Counted:
    zero = f == 0
    zeros = zero.sum(axis=0)
    undecided = zero.any(axis=1) if zeros.any() else np.zeros(len(f), dtype=bool)
    packed = pack(f[~undecided] > 0 if undecided.any() else f > 0)
    functions, counts = counted(packed, np.ones(len(packed), dtype=np.int64))
    return _Counted(functions, counts, len(f), int(undecided.sum()), zeros)


def _networks(
    architecture: Architecture | FromNetwork, X: np.ndarray, networks: int, seed: int
) -> FullyConnectedNetworks | JaxNetworks:
    if isinstance(architecture, FullyConnected) and not architecture.layer_norm:
        return FullyConnectedNetworks(architecture, X, seed)
    return JaxNetworks(architecture, X, seed, networks)


def _refuse_zero_inputs(architecture: Architecture | FromNetwork, X: np.ndarray) -> None:
    """Refuse an input of zeros without biases: every output there is 0, so that no draw is a function."""
    zero = np.flatnonzero(~X.reshape(len(X), -1).any(axis=1))
    if isinstance(architecture, FromNetwork) or architecture.bias_std or not len(zero):
        return
    if kernels.kernel(architecture, X[zero[:1]])[0, 0] == 0:
        raise InvalidInput(
            "X",
            f"input {zero[0]} is zero everywhere, and without biases every network's output there is 0, without a sign",
            "Leave it out, or give the network biases.",
        )


def _about(
    architecture: Architecture | FromNetwork, X: np.ndarray, seed: int, source: str, stream: str
) -> dict[str, Any]:
    """Return everything that the draws depend on."""
    if isinstance(architecture, FromNetwork):
        described: Any = {"kind": "from-network", "name": architecture.name}
    else:
        described = architecture.model_dump(mode="json")
    inputs = hashlib.sha256(str(X.shape).encode() + np.ascontiguousarray(X).tobytes()).hexdigest()
    return {"source": source, "seed": seed, "architecture": described, "inputs": inputs, "stream": stream}


def _before(path: Path, about: dict[str, Any], networks: int) -> FunctionCounts:
    """Read the earlier counts of these draws from a file."""
    before = FunctionCounts.load(path)
    if before.about != about:
        others = ", ".join(name for name in about if before.about.get(name) != about[name])
        raise InvalidInput("path", f"{path} holds other draws (another {others})", "Name another file.")
    if before.draws > networks:
        raise InvalidInput(
            "networks", f"got {networks:,} where {path} has {before.draws:,}", "Ask for as many, or name another file."
        )
    return before


def _require_memory(tally: Tally, rows: int, done: int) -> None:
    """Refuse to continue if the next sort might not fit: two copies of rows, counts, hashes, their order."""
    needed = (tally.rows + rows) * (2 * tally.size + 48)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ResourceLimit(
            f"networks: after {done:,} draws there are {tally.rows:,} different functions; sorting them takes "
            f"{needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free. Draw fewer, or use fewer inputs."
        )
