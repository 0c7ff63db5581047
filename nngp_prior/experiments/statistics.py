r"""Statistics of a study: how well a quantity predicts the test error over networks.

All functions take values x of a quantity and y of what it should predict, one entry per network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr
from scipy.stats import rankdata

from nngp_prior.numerics.random import generator
from nngp_prior.schemas.results.experiment import Coefficient, SignError

Vector = Float[np.ndarray, " networks"]
Labels = Sequence[object]


def pearson(x: Vector, y: Vector) -> float:
    """Pearson's correlation coefficient; NaN if x or y is constant."""
    a, b = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


def spearman(x: Vector, y: Vector) -> float:
    """Spearman's rank correlation; ties have the mean rank."""
    return pearson(rankdata(x), rankdata(y))


def kendall(x: Vector, y: Vector, pairs: Bool[np.ndarray, "networks networks"] | None = None) -> float:
    """Kendall's τ_b, which corrects for ties, over all pairs or some; NaN if x or y is constant."""
    a, b = _signs(x), _signs(y)
    if pairs is not None:
        a, b = a * pairs, b * pairs
    scale = math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))
    return float(np.sum(a * b)) / scale if scale > 0 else math.nan


def partial(x: Vector, y: Vector, z: Vector) -> float:
    """Pearson's partial correlation of x and y given z; that of x and y if z is constant."""
    xy, xz, yz = pearson(x, y), pearson(x, z), pearson(y, z)
    if math.isnan(xz) or math.isnan(yz):
        return xy
    scale = math.sqrt(max(0.0, (1 - xz**2) * (1 - yz**2)))
    return (xy - xz * yz) / scale if scale > 1e-12 else math.nan


def granulated(x: Vector, y: Vector, axes: Mapping[str, Labels], blocks: Labels) -> tuple[float, dict[str, float]]:
    """Granulated Kendall coefficient Ψ, Jiang et al. 2020 (1912.02178), eqs 3 and 4.

    Args:
        x: values of the quantity.
        y: values to predict.
        axes: value of each axis for each network.
        blocks: number of the network within its setting; networks of one number are compared.

    Returns:
        the mean over the axes of ψ, and ψ of each axis: the mean of Kendall's τ over groups of networks that differ in
        this axis alone. Axes along which it is undefined are left out.
    """
    found = {}
    for name in axes:
        others = [values for other, values in axes.items() if other != name]
        taus = [kendall(x[group], y[group]) for group in _groups([*others, blocks]) if len(group) > 1]
        taus = [tau for tau in taus if not math.isnan(tau)]
        if taus:
            found[name] = float(np.mean(taus))
    return (float(np.mean(list(found.values()))) if found else math.nan), found


def conditional_information(x: Vector, y: Vector, axes: Mapping[str, Labels]) -> float:
    """Normalised conditional mutual information of signs of differences, Jiang et al. 2020, eqs 7 to 11.

    For pairs of networks let V_x and V_y be the signs of the differences in x and y, and U_S the values of the axes S
    of both networks. The result is the minimum over sets S of at most two axes of I(V_x; V_y | U_S) / H(V_y | U_S).

    Args:
        x: values of the quantity.
        y: values to predict.
        axes: value of each axis for each network.

    Returns:
        between 0 and 1; NaN if y has no differences.
    """
    a, b = _signs(x).astype(int) + 1, _signs(y).astype(int) + 1
    i, j = np.nonzero(~np.eye(len(x), dtype=bool))
    codes = {name: np.unique([str(value) for value in values], return_inverse=True)[1] for name, values in axes.items()}
    found = []
    for size in range(min(2, len(codes)) + 1):
        for chosen in itertools.combinations(codes.values(), size):
            given = np.zeros(len(i), dtype=int)
            for code in chosen:
                many = int(code.max()) + 1
                given = (given * many + code[i]) * many + code[j]
            found.append(_normalised_information(a[i, j], b[i, j], np.unique(given, return_inverse=True)[1]))
    finite = [each for each in found if not math.isnan(each)]
    return min(finite) if finite else math.nan


def _normalised_information(a: Int[np.ndarray, " p"], b: Int[np.ndarray, " p"], given: Int[np.ndarray, " p"]) -> float:
    counts = np.zeros((int(given.max()) + 1, 3, 3))
    np.add.at(counts, (given, a, b), 1)
    joint = counts / counts.sum()
    total = joint.sum(axis=(1, 2), keepdims=True)
    rows, columns = joint.sum(axis=2, keepdims=True), joint.sum(axis=1, keepdims=True)

    def mean_log(weights: np.ndarray, over: np.ndarray, under: np.ndarray) -> float:
        there = weights > 0
        over, under = np.broadcast_to(over, weights.shape), np.broadcast_to(under, weights.shape)
        return float(np.sum(weights[there] * np.log(over[there] / under[there])))

    entropy = -mean_log(columns, columns, total)
    return mean_log(joint, joint * total, rows * columns) / entropy if entropy > 1e-12 else math.nan


def sign_error(x: Vector, errors: Vector, noise: Vector, axes: Mapping[str, Labels]) -> SignError:
    """Robust sign error, Dziugaite et al. 2020 (2010.11924), section 3.

    An environment is a pair of settings that differ in one axis. Over pairs of networks, one of each setting, its sign
    error is the mean of 1 where x orders the test errors wrongly and of ½ where x is equal, with weights
    2 Φ(|Δ|/s) - 1: how certain the sign of the difference Δ in test error is, s its standard error.

    Args:
        x: values of the quantity, larger for networks that are expected to have a larger test error.
        errors: test errors.
        noise: standard errors of the test errors.
        axes: value of each axis for each network.

    Returns:
        the distribution over environments in which any difference is certain to some extent.
    """
    settings = {
        tuple(str(values[group[0]]) for values in axes.values()): group for group in _groups(list(axes.values()))
    }
    found = []
    for (one, first), (other, second) in itertools.combinations(settings.items(), 2):
        if sum(a != b for a, b in zip(one, other, strict=True)) != 1:
            continue
        difference = errors[first][:, None] - errors[second]
        deviation = np.hypot(noise[first][:, None], noise[second])
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.where(difference == 0, 0.0, 2 * ndtr(np.abs(difference) / deviation) - 1)
        agreement = np.sign(x[first][:, None] - x[second]) * np.sign(difference)
        if weights.sum() > 0:
            found.append(float(np.sum(weights * (1 - agreement) / 2) / weights.sum()))
    if not found:
        return SignError(0, math.nan, math.nan, math.nan, math.nan)
    quantiles = np.quantile(found, (0.5, 0.9, 1.0))
    return SignError(len(found), float(np.mean(found)), *map(float, quantiles))


def bootstrap(
    statistics: Callable[[Vector, Vector, Vector, Any], Sequence[float]],
    x: Vector,
    y: Vector,
    z: Vector,
    stderr: Vector,
    settings: Labels,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> list[Coefficient]:
    """Return statistics with percentile intervals.

    Settings are drawn with replacement, each with all its networks (Davison and Hinkley 1997, section 3.8), since
    networks of one setting are alike; with one setting, networks are drawn. x varies by its own standard error, too.

    Args:
        statistics: function of x, y, z and ``pairs`` that returns one or several coefficients. ``pairs`` is False for
            networks of two copies of a setting, which a coefficient over pairs must leave out: with them a resample
            would have more pairs of one setting than the data. None for the data.
        x: values of the quantity.
        y: values to predict.
        z: a covariate.
        stderr: standard errors of x.
        settings: setting of each network.
        level: probability content of the intervals.
        resamples: number of resamples.
        seed: random seed.

    Returns:
        the coefficients of the data, with the ends of their intervals.
    """
    rng, groups = generator(seed, "bootstrap"), list(_groups([settings]))
    if len(groups) == 1:
        groups = list(groups[0][:, None])
    sizes = np.array([len(group) for group in groups])
    values = []
    for chosen in rng.integers(len(groups), size=(resamples, len(groups))):
        drawn = np.concatenate([groups[g] for g in chosen])
        setting, copy = np.repeat(chosen, sizes[chosen]), np.repeat(np.arange(len(chosen)), sizes[chosen])
        pairs = (setting[:, None] != setting) | (copy[:, None] == copy)
        values.append(statistics(x[drawn] + stderr[drawn] * rng.standard_normal(len(drawn)), y[drawn], z[drawn], pairs))
    tail = (1 - level) / 2
    found = []
    for value, column in zip(statistics(x, y, z, None), np.array(values, float).T, strict=True):
        finite = column[np.isfinite(column)]
        low, high = np.quantile(finite, (tail, 1 - tail)) if len(finite) else (math.nan, math.nan)
        found.append(Coefficient(value, float(low), float(high)))
    return found


def _signs(x: Vector) -> Float[np.ndarray, "networks networks"]:
    return np.sign(x[:, None] - x)


def _groups(columns: Sequence[Labels]) -> Iterator[Int[np.ndarray, " some"]]:
    """Yield the indices of the networks that agree in all columns, in order of first appearance."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, values in enumerate(zip(*columns, strict=True)):
        found.setdefault(tuple(map(str, values)), []).append(i)
    yield from map(np.array, found.values())
