r"""Duals of activations: E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for Gaussian u and v, in closed form.

With (u, v) ~ N(0, [[q, k], [k, q']]), and c = k/√(q q') their correlation. Quantities of a single input (*terms*) are
computed once per input; the remaining computation per pair is elementwise, without branches, and free of NaN at c = ±1
and at variances of 0. Results keep their relative accuracy as c goes to ±1 or the variances to 0, so that copies of an
input stay copies through many layers.

Derivatives by JAX are finite everywhere too: functions of which JAX would differentiate √x at 0, or a branch that is
not taken, have rules of their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nngp_prior.schemas.specs.architecture import ActivationName

_ROUNDING = 8  # units of rounding within which a correlation is set to 1

Terms = tuple[Array, ...]


class Dual(NamedTuple):
    """Dual of one activation.

    Attributes:
        terms: variance of an input -> terms.
        expectations: (k, terms, terms of the other input, whether slopes are required) ->
            (E[φ(u) φ(v)], E[φ'(u) φ'(v)] or None), elementwise.
    """

    terms: Callable[[Array], Terms]
    expectations: Callable[[Array, Terms, Terms, bool], tuple[Array, Array | None]]


def dual(name: ActivationName, negative_slope: float = 0.0) -> Dual:
    """Return the dual of an activation.

    Args:
        name: name of the activation.
        negative_slope: slope of ``leaky-relu`` for negative arguments.

    Returns:
        its terms and expectations.
    """
    match name:
        case "relu":
            return Dual(_scales, functools.partial(_rectifier, slope=0.0))
        case "leaky-relu":
            return Dual(_scales, functools.partial(_rectifier, slope=negative_slope))
        case "erf":
            return Dual(lambda q: (jnp.sqrt(2 / (1 + 2 * q)),), _erf)
        case "gelu":
            return Dual(lambda q: (q, 1 / jnp.sqrt(1 + q)), _gelu)
        case "sin":
            return Dual(lambda q: (q / 2,), _sin)
        case "cos":
            return Dual(lambda q: (q / 2,), _cos)
        case "identity":
            return Dual(lambda q: (), lambda k, t, t2, slopes: (k, jnp.ones_like(k) if slopes else None))


def _scales(q: Array) -> Terms:
    """Return √q and 1/√q, the latter 0 for an input without variance."""
    s = jnp.sqrt(jnp.where(q > 0, q, 1))
    return jnp.where(q > 0, s, 0), jnp.where(q > 0, 1 / s, 0)


def _rectifier(k: Array, t: Terms, t2: Terms, slopes: bool, slope: float) -> tuple[Array, Array | None]:
    r"""φ(u) = max(u, a u): arc-cosine kernels (Cho and Saul 2009, eqs 3 to 6; leaky: Tsuchida et al. 2018).

    .. math::
        E[φ(u) φ(v)] &= \tfrac12 \sqrt{q q'} ((1 + a^2) c + (1 - a)^2 (\sin θ - θ \cos θ) / π), \quad c = \cos θ \\
        E[φ'(u) φ'(v)] &= \tfrac12 (1 + a^2 - (1 - a)^2 θ / π)

    With x = 1 - |c| both are √x times a power series in x; c < 0 follows from θ(-c) = π - θ(c).

    Returns:
        both expectations.
    """
    (s, r), (s2, r2) = t, t2
    c = k * (r * r2)
    expectation = (0.5 * (s * s2)) * _arc_cosine(c, slope)
    return expectation, 0.5 * _arc_cosine_slope(c, slope) if slopes else None


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _arc_cosine(c: Array, a: float) -> Array:
    """Return 2 E[φ(u) φ(v)] / √(q q') of leaky rectifiers."""
    c, x, root = _from_one(c)
    rest = x * root * _polynomial(_series_of(c).arc_integral, x)  # (sin θ - θ cos θ) / π at |c|
    return (1 - a) ** 2 * rest + jnp.maximum((1 + a * a) * c, 2 * a * c)


@_arc_cosine.defjvp
def _(a: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _arc_cosine(*primals, a), _arc_cosine_slope(*primals, a) * tangents[0]


def _arc_cosine_slope(c: Array, a: float) -> Array:
    """Return 2 E[φ'(u) φ'(v)] of leaky rectifiers."""
    c, x, root = _from_one(c)
    share = root * _polynomial(_series_of(c).arc, x)  # θ / π at |c|
    share = jnp.where(c < 0, 1 - share, share)
    return 1 + a * a - (1 - a) ** 2 * share


def _from_one(c: Array) -> tuple[Array, Array, Array]:
    """Return the correlation, clipped, x = 1 - |c| and √x."""
    c = jnp.clip(c, -1, 1)
    x = 1 - jnp.abs(c)
    x = jnp.where(x < _ROUNDING * jnp.finfo(x.dtype).eps, 0, x)  # θ ~ √x would magnify the rounding a thousandfold
    return c, x, jnp.sqrt(x)


def _erf(k: Array, t: Terms, t2: Terms, slopes: bool) -> tuple[Array, Array | None]:
    r"""Arcsine kernel (Williams 1997, eq. 11), with z = 2 k / √((1 + 2 q) (1 + 2 q')).

    .. math:: E[φ(u) φ(v)] = \tfrac{2}{π} \arcsin z, \qquad
        E[φ'(u) φ'(v)] = \tfrac{4}{π} / \sqrt{(1 + 2 q) (1 + 2 q') - 4 k^2}

    Returns:
        both expectations.
    """
    scale = t[0] * t2[0]
    z = k * scale
    expectation = (2 / math.pi) * _arcsin(z)
    if not slopes:
        return expectation, None
    return expectation, (2 / math.pi) * scale / jnp.sqrt((1 - z) * (1 + z))


def _gelu(k: Array, t: Terms, t2: Terms, slopes: bool) -> tuple[Array, Array | None]:
    r"""φ(u) = u Φ(u) (Tsuchida et al. 2021, proposition 2), with z = k / √((1 + q) (1 + q')).

    .. math::
        E[φ(u) φ(v)] &= \frac{k}{4} + \frac{1}{2π} \left( k \arcsin z +
            \frac{z^2 + q q' (1 - z^2)}{\sqrt{(1 + q) (1 + q')} \sqrt{1 - z^2}} \right) \\
        E[φ'(u) φ'(v)] &= \frac14 + \frac{1}{2π} \left( \arcsin z + \frac{z}{\sqrt{1 - z^2}}
            \left( 1 + \frac{1 - q q'}{(1 + q)(1 + q')} + \frac{1}{(1 + q)(1 + q')(1 - z^2)} \right) \right)

    Returns:
        both expectations.
    """
    (q, r), (q2, r2) = t, t2
    scale, product = r * r2, q * q2
    z = k * scale
    cosine2 = (1 - z) * (1 + z)
    secant = 1 / jnp.sqrt(cosine2)
    angle = _arcsin(z)
    expectation = k / 4 + (k * angle + scale * secant * (z * z + product * cosine2)) / (2 * math.pi)
    if not slopes:
        return expectation, None
    slope = angle + z * secant * (1 + scale * scale * (1 - product + secant * secant))
    return expectation, 0.25 + slope / (2 * math.pi)


def _sin(k: Array, t: Terms, t2: Terms, slopes: bool) -> tuple[Array, Array | None]:
    r"""Real part of characteristic functions (Rahimi and Recht 2007), written so that nothing overflows.

    .. math:: E[\sin u \sin v] = e^{-(q + q')/2} \sinh k, \qquad E[\cos u \cos v] = e^{-(q + q')/2} \cosh k

    Returns:
        both expectations.
    """
    damping = t[0] + t2[0]
    return _damped_sinh(k, damping), _damped_cosh(k, damping) if slopes else None


def _cos(k: Array, t: Terms, t2: Terms, slopes: bool) -> tuple[Array, Array | None]:
    """As for sin."""
    damping = t[0] + t2[0]
    return _damped_cosh(k, damping), _damped_sinh(k, damping) if slopes else None


@jax.custom_jvp
def _damped_sinh(k: Array, damping: Array) -> Array:
    """Return e^(-damping) sinh k, accurate to the precision of k, however small."""
    half, less = _exponentials(k, damping)
    return -jnp.sign(k) * half * less


@jax.custom_jvp
def _damped_cosh(k: Array, damping: Array) -> Array:
    """Return e^(-damping) cosh k."""
    half, less = _exponentials(k, damping)
    return half * (2 + less)


@_damped_sinh.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    sinh = _damped_sinh(*primals)
    return sinh, _damped_cosh(*primals) * tangents[0] - sinh * tangents[1]


@_damped_cosh.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    cosh = _damped_cosh(*primals)
    return cosh, _damped_sinh(*primals) * tangents[0] - cosh * tangents[1]


def _exponentials(k: Array, damping: Array) -> tuple[Array, Array]:
    """Return e^(|k| - damping) / 2, and e^(-2 |k|) - 1."""
    size = jnp.abs(k)
    return 0.5 * jnp.exp(size - damping), jnp.expm1(-2 * size)


class _Series(NamedTuple):
    """Coefficients of polynomials in x, in ascending powers, accurate to the precision of a type.

    Attributes:
        arc: arccos(1 - x) / (π √x), 0 ≤ x ≤ 1.
        arc_integral: its integral, ∫₀ˣ arccos(1 - t) dt / (π x^(3/2)) = (sin θ - θ cos θ) / (π x^(3/2)).
        arcsin: (arcsin √x / √x - 1) / x, 0 ≤ x ≤ 1/4.
    """

    arc: tuple[float, ...]
    arc_integral: tuple[float, ...]
    arcsin: tuple[float, ...]


@jax.custom_jvp
def _arcsin(z: Array) -> Array:
    """arcsin z without branches: arcsin a = π/2 - 2 arcsin √((1 - a)/2) for a = abs(z) > 1/2."""
    a = jnp.abs(z)
    small = a < 0.5
    x = jnp.where(small, a * a, 0.5 - 0.5 * jnp.minimum(a, 1))
    root = jnp.where(small, a, jnp.sqrt(x))
    angle = root + root * x * _polynomial(_series_of(z).arcsin, x)
    return jnp.sign(z) * jnp.where(small, angle, math.pi / 2 - 2 * angle)


@_arcsin.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (z,) = primals
    return _arcsin(z), tangents[0] / jnp.sqrt((1 - z) * (1 + z))


def _series_of(x: Array) -> _Series:
    return _series(19, 11) if x.dtype == jnp.float64 else _series(8, 5)


@functools.cache
def _series(arc_degree: int, arcsin_degree: int) -> _Series:
    # arccos(1 - x) = √(2 x) Σ_j C(2j, j) (x/8)^j / (2j + 1) and arcsin a = a Σ_j C(2j, j) (a²/4)^j / (2j + 1).
    j = np.arange(64)
    central = np.array([math.comb(2 * i, i) / 4**i / (2 * i + 1) for i in range(64)])
    arc = math.sqrt(2) / math.pi * central / 2.0**j
    return _Series(
        _economised(arc, arc_degree, 1.0),
        _economised(arc / (j + 1.5), arc_degree, 1.0),
        _economised(central[1:], arcsin_degree, 0.25),
    )


def _economised(series: np.ndarray, degree: int, upper: float) -> tuple[float, ...]:
    """Interpolate a power series with positive terms at the Chebyshev points of [0, upper]."""
    chebyshev = np.polynomial.Chebyshev.interpolate(
        lambda x: np.polynomial.polynomial.polyval(x, series), degree, domain=[0, upper]
    )
    return tuple(map(float, chebyshev.convert(kind=np.polynomial.Polynomial).coef))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
