"""Kernels of users' networks, with and without a kernel function."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from nngp_prior import FromNetwork, MonteCarlo, kernel, monte_carlo_kernel
from nngp_prior.architectures.neural_tangents import stax
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.architecture import FullyConnected
from tests.kernels.random_networks import LINEAR, VECTORS, analytic, init, largest_z


def triple() -> Any:
    return stax.serial(stax.Dense(16), stax.Erf(), stax.Dense(2))


def test_a_triple_has_an_analytic_kernel_and_a_monte_carlo_one() -> None:
    own = FromNetwork(*triple(), name="erf")
    K = kernel(own, VECTORS)
    # stax's defaults: σ_w = 1 and no biases.
    expected = analytic(FullyConnected(depth=1, activation="erf", weight_std=1, bias_std=0))
    assert pytest.approx(expected, rel=1e-12) == K
    assert np.array_equal(kernel(own, VECTORS, VECTORS[:3]), kernel(own, VECTORS[:3], VECTORS).T)
    found = monte_carlo_kernel(own, VECTORS, MonteCarlo(networks=1024))
    assert largest_z(found, expected) < 1
    assert largest_z(found, 1.5 * expected) > 1


def test_a_triple_has_a_tangent_kernel() -> None:
    """Ours off the diagonal, where neural-tangents loses half of the digits."""
    layers = (stax.Dense(16, parameterization="ntk"), stax.Erf(), stax.Dense(2, parameterization="ntk"))
    own = FromNetwork(*stax.serial(*layers), name="tangent")
    architecture = FullyConnected(depth=1, activation="erf", weight_std=1, bias_std=0)
    off_diagonal = ~np.eye(4, dtype=bool)
    ours = kernel(architecture, VECTORS, get="ntk")
    assert kernel(own, VECTORS, get="ntk")[off_diagonal] == pytest.approx(ours[off_diagonal], rel=1e-10)
    assert np.abs(kernel(own, VECTORS, get="ntk") - kernel(own, VECTORS)).max() > 0.1
    with pytest.raises(InvalidInput, match=r"get: got 'cov'.*nngp, ntk"):
        kernel(own, VECTORS, get="cov")


def test_tiles_of_a_triples_kernel_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    own = FromNetwork(*triple(), name="erf")
    whole = kernel(own, VECTORS)
    monkeypatch.setattr("nngp_prior.kernels.from_network._TILE", 3)
    events: list[Progress] = []
    tiled = kernel(own, VECTORS, progress=events.append)
    assert tiled == pytest.approx(whole, rel=1e-13)
    assert np.array_equal(tiled, tiled.T)
    assert [event.done for event in events] == [1, 2, 3]


def test_a_pair_has_a_monte_carlo_kernel_only() -> None:
    found = monte_carlo_kernel(LINEAR, VECTORS, MonteCarlo(networks=1024))
    assert largest_z(found, VECTORS @ VECTORS.T) < 1
    with pytest.raises(InvalidInput, match=r"'linear' has no kernel_fn.*kernel=MonteCarlo\(…\)"):
        kernel(LINEAR, VECTORS)
    with pytest.raises(InvalidInput, match="features: got 'penultimate' but the layers of"):
        monte_carlo_kernel(LINEAR, VECTORS, MonteCarlo(features="penultimate"))


RNG = np.random.default_rng(0)
BAD: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "nan": (init, lambda w, X: jnp.sqrt(X @ w), r"network \d+ gives nan at input \d, unit 0.*correct apply"),
    "wrong shape": (init, lambda w, X: X[None] @ w, r"apply: gives shape \(1, 3\) for 3 inputs.*\(n, outputs\)"),
    "integers": (init, lambda w, X: (X @ w > 0).astype(int), "apply: gives numbers of type int"),
    "random apply": (
        init,
        lambda w, X: X @ w + RNG.standard_normal(),
        "apply: gives an input other outputs when it is",
    ),
    "over inputs": (init, lambda w, X: X @ w - jnp.mean(X @ w), "other inputs are in the same call.*over units"),
    "random init": (
        lambda key, shape: (None, jnp.asarray(RNG.standard_normal(shape[-1]))),
        lambda w, X: X @ w,
        "init: gives other parameters when it is called again with the same key.*from the key",
    ),
    "NumPy": (init, lambda w, X: np.asarray(X) @ np.asarray(w), "architecture: cannot be traced by JAX.*jax.numpy"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_networks_are_named_with_a_remedy(name: str) -> None:
    init, apply, message = BAD[name]
    with pytest.raises(InvalidInput, match=message):
        monte_carlo_kernel(FromNetwork(init, apply, name=name), VECTORS, MonteCarlo(networks=8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": init, "apply": init}, "name: got ''"),
        ({"init": init, "apply": None, "name": "a"}, "apply: got None"),
        ({"init": init, "apply": init, "kernel_fn": 3, "name": "a"}, "kernel_fn: got 3"),
    ],
)
def test_what_is_no_network_is_refused(arguments: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what users have
    with pytest.raises(InvalidInput, match=message):
        FromNetwork(**arguments)


def test_a_kernel_function_that_gives_no_kernel_is_named() -> None:
    own = FromNetwork(init, lambda w, X: X @ w, lambda X, X2, get: X @ X.T * jnp.nan, name="nan")
    with pytest.raises(InvalidInput, match="kernel_fn: gives 'nan' no finite kernel"):
        kernel(own, VECTORS)
