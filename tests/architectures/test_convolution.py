"""Convolutions and their derivatives against ``lax.conv_general_dilated`` and JAX's derivatives of it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from nngp_prior.architectures import network
from nngp_prior.architectures.convolution import convolve
from nngp_prior.schemas.specs.architecture import Convolutional, ConvolutionLayer, Residual
from nngp_prior.sharpness.risk.networks import high_precision

Function = Callable[[Array, Array], Array]

# image, channels in and out, filter, stride, padding
CASES = [
    ((7, 6), 4, 2, 3, 2, "same"),  # the filter leaves out a column
    ((8, 7), 3, 2, 3, 3, "valid"),
    ((9, 8), 17, 20, 2, 1, "valid"),  # more channels than are filled up in float64
    ((5, 5), 2, 3, 1, 2, "same"),
    ((4, 3), 3, 1, 5, 1, "same"),  # a filter larger than the image
    ((6, 7), 2, 3, 3, 2, "circular"),
    ((16, 8), 300, 2, 3, 1, "same"),  # gradients of weights in two blocks, in float64
]


def by_lax(x: Array, W: Array, stride: int, padding: str) -> Array:
    if padding == "circular":
        pads = lax.padtype_to_pads(x.shape[1:3], W.shape[:2], (stride, stride), "SAME")
        x, padding = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="wrap"), "valid"
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, W, (stride, stride), padding.upper(), dimension_numbers=layout)


def everything(convolution: Function, x: Array, W: Array, v: tuple[Array, Array], weights: Array) -> Any:
    """Output, tangent, gradient, Hessian product, and gradients of batches of images and of weights."""

    def loss(x: Array, W: Array) -> Array:
        return jnp.sum(weights[: len(x)] * jnp.sin(convolution(x, W)))

    gradient = jax.grad(loss, (0, 1))
    images, filters = jnp.stack([x, v[0]], axis=1), jnp.stack([W, v[1]], axis=-1)
    return (
        jax.jvp(convolution, (x, W), v),
        gradient(x, W),
        jax.jvp(gradient, (x, W), v)[1],
        jax.vmap(gradient, (None, -1))(x, filters),
        jax.vmap(gradient, (1, None))(images, W),
        jax.vmap(gradient, (1, -1))(images, filters),
        jax.vmap(lambda x: gradient(x[None], W))(x),
    )


@pytest.mark.parametrize(("case", "dtype"), [*((case, "float64") for case in CASES), (CASES[0], "float32")], ids=str)
def test_equals_lax_and_its_derivatives(case: tuple[Any, ...], dtype: str) -> None:
    image, inputs, outputs, size, stride, padding = case
    rng = np.random.default_rng(0)
    with high_precision():

        def normal(*shape: int) -> Array:
            return jnp.asarray(rng.standard_normal(shape), dtype)

        x, W = normal(3, *image, inputs), normal(size, size, inputs, outputs)
        v = normal(*x.shape), normal(*W.shape)
        weights = normal(*jax.eval_shape(functools.partial(by_lax, stride=stride, padding=padding), x, W).shape)
        found, expected = (
            jax.jit(functools.partial(everything, functools.partial(each, stride=stride, padding=padding)))(
                x, W, v, weights
            )
            for each in (convolve, by_lax)
        )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == dtype
        assert np.abs(one - other).max() <= 200 * np.finfo(dtype).eps * np.abs(other).max()


@pytest.mark.parametrize(
    "architecture",
    [
        *(
            Convolutional(layers=(ConvolutionLayer(padding=padding, stride=stride),) * 2, channels=3, bias_std=bias)
            for padding, stride, bias in itertools.product(("same", "valid", "circular"), (1, 2), (0.0, 0.1))
        ),
        Residual(groups=2, channels=3),
    ],
    ids=str,
)
def test_networks_equal_those_of_accelerators(architecture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    init, apply = network(architecture)
    with high_precision():
        X = jax.random.normal(jax.random.key(1), (3, 9, 10, 2))
        parameters = init(jax.random.key(0), X.shape)[1]
        here = str(jax.make_jaxpr(apply)(parameters, X))
        found = apply(parameters, X)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        there = str(jax.make_jaxpr(lambda parameters, X: apply(parameters, X))(parameters, X))
        np.testing.assert_allclose(found, apply(parameters, X), rtol=1e-12)
    assert "conv_general_dilated" in there
    assert "convolution_gradient" not in there
    assert "convolution_gradient" in here


def test_derivatives_inside_of_loops_are_written_as_outside() -> None:
    """XLA's CPU back end brings convolutions into its fast layout outside of loops only."""

    def train(W: Array, X: Array) -> Array:
        def step(W: Array, x: Array) -> tuple[Array, None]:
            return W - 0.1 * jax.grad(lambda W: jnp.sum(jnp.sin(convolve(x, W, 1, "same"))))(W), None

        return lax.scan(step, W, X)[0]

    program = jax.jit(jax.vmap(train, (0, None))).lower(jnp.ones((2, 3, 3, 17, 17)), jnp.ones((4, 5, 6, 6, 17)))
    text = str(program.compile().as_text())
    lines = [line for line in text.splitlines() if " convolution(" in line]
    assert len(lines) > 1
    assert all("dim_labels=b01f_01io->b01f" in line and "feature_group_count" not in line for line in lines)
