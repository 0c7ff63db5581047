"""Choice of an architecture by log P of the training labels: the network's evidence as a model of them.

EP's log Z is maximised over σ_w and σ_b with its exact derivatives (:mod:`nngp_prior.probability.gradient`), for each
architecture of a family; log P of the results is then estimated with its error bar. The maximum is rounded to a grid,
so that the number of possible choices is finite: a PAC-Bayes bound for a prior chosen after seeing the labels holds
with δ divided by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from typing_extensions import override

from nngp_prior import kernels, style
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.errors import InvalidInput
from nngp_prior.prior.function_prior import log_prior
from nngp_prior.prior.posterior import function_posterior, smc_of
from nngp_prior.prior.weight_grid import Interval, grid, number_of_choices
from nngp_prior.probability import prepare, require_memory
from nngp_prior.probability.common_random_numbers import labels_kept
from nngp_prior.probability.ep import Sites
from nngp_prior.probability.gradient import ep_gradient
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.requests import BIAS_STD, WEIGHT_STD
from nngp_prior.schemas.results.selection import Candidate, Selection
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.architecture import ARCHITECTURES, Architecture
from nngp_prior.schemas.specs.estimator import EP, SMC
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.titles import network

_EVALUATIONS = 40  # of EP for one architecture, at most


def select_architecture(
    family: Architecture | Sequence[Architecture],
    X: ArrayLike,
    y: ArrayLike,
    *,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    weight_std: Interval = WEIGHT_STD,
    bias_std: Interval = BIAS_STD,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Selection:
    """Maximise log P of training labels over σ_w and σ_b of some architectures.

    Args:
        family: architectures, such as several depths and activations; the search starts at their σ_w and σ_b.
        X: (n, …) training inputs.
        y: (n,) training labels: integers -1/+1 or booleans.
        X_test: (t, …) test inputs, for test errors; they have no part in the choice.
        y_test: (t,) their labels.
        weight_std: interval of σ_w.
        bias_std: interval of σ_b.
        seed: as for :func:`nngp_prior.log_probability`.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: fields of ``SMC``, such as ``noise_variance``; not ``classes`` and ``target_stderr``.

    Returns:
        for each architecture two candidates: with its own σ_w and σ_b, and with those of the largest log Z of EP.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    members = [family] if isinstance(family, ARCHITECTURES) else list(family)
    if not members or not all(isinstance(each, ARCHITECTURES) for each in members):
        raise InvalidInput("family", "is not a list of architectures", "Pass [FullyConnected(depth=1), …].")
    if (X_test is None) != (y_test is None):
        missing = "y_test" if y_test is None else "X_test"
        raise InvalidInput(missing, "is missing", "Pass both X_test and y_test, or neither.")
    box = [_interval("weight_std", weight_std), _interval("bias_std", bias_std)]
    parameters = smc_of(options)
    checked = [check_inputs("X", X, architecture) for architecture in members]
    n = len(checked[0])
    labels = check_labels(y, n)
    test = None
    if X_test is not None and y_test is not None:
        check_labels(y_test, len(check_inputs("X_test", X_test, members[0])), field="y_test")
        test = X_test, y_test
    require_memory(n, parameters, with_kernel=True)
    candidates: list[Candidate] = []
    with shown(progress, "selection") as tell:
        for done, (architecture, inputs) in enumerate(zip(members, checked, strict=True)):
            tell(Progress("architectures", done, len(members)))
            found = maximum(architecture, inputs, labels, parameters, box, tell)
            for each in dict.fromkeys([architecture, found]):
                candidates.append(candidate_of(each, each is found, inputs, labels, test, parameters, seed, tell))
        tell(Progress("architectures", len(members), len(members)))
    return Selection(candidates, number_of_choices(len(members), box))


def candidate_of(
    architecture: Architecture,
    optimised: bool,
    X: np.ndarray,
    y: np.ndarray,
    test: tuple[ArrayLike, ArrayLike] | None,
    parameters: SMC,
    seed: SeedLike,
    progress: ProgressCallback,
) -> Candidate:
    """Estimate log P of the training labels for one architecture, and its test error.

    Args:
        architecture: the architecture.
        optimised: True if its σ_w and σ_b are optimised.
        X: (n, …) training inputs.
        y: (n,) training labels -1 and +1.
        test: test inputs and their labels, if there are any.
        parameters: specification of the estimator.
        seed: random seed.
        progress: progress callback.

    Returns:
        the candidate.

    Raises:
        InvalidLabels: if there are test inputs, and the training labels have probability 0.
    """
    log_p = log_prior(architecture, X, y, method=parameters, seed=seed, progress=progress)
    error = None
    if test is not None:
        options = parameters.model_dump(exclude={"kind"})
        posterior = function_posterior(architecture, X, y, test[0], seed=seed, progress=progress, **options)
        error = posterior.vote_error(test[1])
    return Candidate(architecture, optimised, log_p, error)


def _interval(field: str, interval: Interval) -> Interval:
    low, high = interval
    if not 0 < low < high < math.inf:
        raise InvalidInput(field, f"got {interval!r}", "Pass two positive numbers, the smaller first.")
    return low, high


def maximum(
    architecture: Architecture,
    X: np.ndarray,
    y: np.ndarray,
    parameters: SMC,
    box: Sequence[Interval],
    progress: ProgressCallback,
) -> Architecture:
    """Maximise EP's log Z of training labels over σ_w and σ_b.

    Args:
        architecture: the architecture, with σ_w and σ_b where the search starts.
        X: (n, …) training inputs.
        y: (n,) training labels -1 and +1.
        parameters: specification of the estimator of log P, for its noise and jitter.
        box: intervals of σ_w and σ_b.
        progress: progress callback, called after each evaluation of EP.

    Returns:
        the architecture with the grid's σ_w and σ_b nearest to the maximum found.
    """
    method = EP(noise_variance=parameters.noise_variance, jitter=parameters.jitter, max_sweeps=100)
    sites: list[Sites] = []
    best = (math.inf, _with(architecture, [architecture.weight_std, architecture.bias_std]))

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        values = np.exp(logs)
        each = _with(architecture, values)
        value, gradient = _log_z(each, X, y, method, sites)
        progress(Progress("evaluations of EP", len(sites), _EVALUATIONS))
        if -value < best[0]:
            best = (-value, each)
        return -value, -gradient * values

    bounds = [(math.log(low), math.log(high)) for low, high in box]
    start = np.clip(np.log(np.maximum([architecture.weight_std, architecture.bias_std], 1e-300)), *np.transpose(bounds))
    options = {"maxfun": _EVALUATIONS, "ftol": 1e-6}
    minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    progress(Progress("evaluations of EP", _EVALUATIONS, _EVALUATIONS))
    chosen = best[1].weight_std, best[1].bias_std
    nearest = [
        float(values[np.argmin(np.abs(np.log(values / value)))])
        for values, value in zip(map(grid, box), chosen, strict=True)
    ]
    return _with(architecture, nearest)


def _log_z(
    architecture: Architecture, X: np.ndarray, y: np.ndarray, method: EP, sites: list[Sites]
) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Return EP's log Z and its derivatives; EP starts from the last of ``sites``, and appends its own.

    Where a kernel is too close to singular for EP, log Z counts as very small, without a slope.
    """
    K, *dK = (kernels.kernel(architecture, X, get=get) for get in ("nngp", "d-weight-std", "d-bias-std"))
    kernel = prepare(K, method)
    if kernel.rank == kernel.m:
        start = sites[-1] if sites and len(sites[-1].precision) == kernel.m else None
        result, gradient = ep_gradient(kernel, labels_kept(kernel, y), dK, method, start)
        sites.append(result.sites)
        if np.isfinite(result.log_z) and np.isfinite(gradient).all():
            return result.log_z, gradient
    return -1e3 * len(X), np.zeros(2)


def _with(architecture: Architecture, values: Sequence[float] | np.ndarray) -> Architecture:
    weight_std, bias_std = (float(value) for value in values)
    return architecture.model_copy(update={"weight_std": weight_std, "bias_std": bias_std})


class PhaseDiagram(Tabular):
    """EP's log Z of training labels over σ_w and σ_b; the data frame has a row for each pair.

    Attributes:
        architecture: the architecture, with any σ_w and σ_b.
        weight_std: (w,) values of σ_w.
        bias_std: (b,) values of σ_b.
        log_z: (w, b) EP's log Z, nats; NaN where the kernel is too close to singular.
    """

    def __init__(
        self,
        architecture: Architecture,
        weight_std: Float[np.ndarray, " w"],
        bias_std: Float[np.ndarray, " b"],
        log_z: Float[np.ndarray, "w b"],
    ) -> None:
        self.architecture, self.weight_std, self.bias_std, self.log_z = architecture, weight_std, bias_std, log_z

    @override
    def _summary(self) -> str:
        i, j = np.unravel_index(int(np.nanargmax(self.log_z)), self.log_z.shape)
        where = f"σ_w = {self.weight_std[i]:.4g}, σ_b = {self.bias_std[j]:.4g}"
        return f"{network(self.architecture)}: largest log Z {self.log_z[i, j]:.2f} at {where}"

    @override
    def _table(self) -> Table:
        columns = [
            Column("weight_std", lambda at: float(self.weight_std[at[0]]), heading="σ_w", form=".4g"),
            Column("bias_std", lambda at: float(self.bias_std[at[1]]), heading="σ_b", form=".4g"),
            Column("log_z", lambda at: float(self.log_z[at]), heading="EP's log Z (nats)", form=".2f"),
        ]
        return Table(columns, list(np.ndindex(self.log_z.shape)))

    @override
    def _draw(self, ax: Any) -> None:
        mesh = ax.pcolormesh(self.weight_std, self.bias_std, self.log_z.T, shading="nearest", cmap="viridis")
        ax.figure.colorbar(mesh, ax=ax, label="EP's log Z (nats)")
        i, j = np.unravel_index(int(np.nanargmax(self.log_z)), self.log_z.shape)
        ax.plot(self.weight_std[i], self.bias_std[j], "x", color=style.ACCENT)
        ax.set(xscale="log", yscale="log", xlabel="σ_w", ylabel="σ_b")
        ax.set_xticks(self.weight_std[::2], [f"{value:.2g}" for value in self.weight_std[::2]])
        ax.set_yticks(self.bias_std[::2], [f"{value:.2g}" for value in self.bias_std[::2]])
        ax.minorticks_off()


def phase_diagram(
    architecture: Architecture,
    X: ArrayLike,
    y: ArrayLike,
    *,
    weight_std: ArrayLike | None = None,
    bias_std: ArrayLike | None = None,
    noise_variance: float = 0.0,
    jitter: float = 0.0,
    progress: ProgressOption = None,
) -> PhaseDiagram:
    """Compute EP's log Z of training labels on a grid of σ_w and σ_b.

    Args:
        architecture: specification of the network.
        X: (n, …) training inputs.
        y: (n,) training labels: integers -1/+1 or booleans.
        weight_std: (w,) values of σ_w, ascending; default: nine from 0.5 to 8.
        bias_std: (b,) values of σ_b, ascending; default: nine from 0.05 to 5.
        noise_variance: v; for K + vI.
        jitter: as for :func:`nngp_prior.log_probability`.
        progress: True to show progress, or a callback, called with ``Progress`` events.

    Returns:
        the grid.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    weights = _ascending("weight_std", np.geomspace(0.5, 8, 9) if weight_std is None else weight_std)
    biases = _ascending("bias_std", np.geomspace(0.05, 5, 9) if bias_std is None else bias_std)
    X = check_inputs("X", X, architecture)
    labels = check_labels(y, len(X))
    method = EP(noise_variance=noise_variance, jitter=jitter, max_sweeps=100)
    log_z = np.full((len(weights), len(biases)), math.nan)
    with shown(progress, "phase diagram") as tell:
        for done, (i, j) in enumerate(np.ndindex(log_z.shape)):
            tell(Progress("kernels", done, log_z.size))
            found = log_prior(_with(architecture, [float(weights[i]), float(biases[j])]), X, labels, method=method)
            if found.status == "ok":
                log_z[i, j] = found.value
        tell(Progress("kernels", log_z.size, log_z.size))
    return PhaseDiagram(architecture, weights, biases, log_z)


def _ascending(field: str, values: ArrayLike) -> Float[np.ndarray, " values"]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not np.all(np.diff(found, prepend=0) > 0) or not np.isfinite(found).all():
        raise InvalidInput(field, f"got {values!r}", "Pass positive numbers in ascending order.")
    return found
