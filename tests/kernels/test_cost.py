import inspect
import itertools
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from nngp_prior import FullyConnected, kernel, kernel_cost
from nngp_prior.architectures import layers_of
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels import KernelJob
from nngp_prior.kernels.cost import seconds_of_kernel
from nngp_prior.kernels.footprint import seconds_of_compilation
from nngp_prior.schemas.specs.architecture import Architecture, Convolutional, ConvolutionLayer, Residual
from tests.kernels.small import with_tiles

TWO = (ConvolutionLayer(),) * 2
X = np.random.default_rng(0).standard_normal((400, 4))


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_does_not_fit_is_refused_before_any_work_and_the_largest_that_does_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path, on_disk: bool
) -> None:
    computed = with_tiles(monkeypatch, 500 if on_disk else 8)
    limit = kernel_cost(FullyConnected(), 300, (4,), on_disk=on_disk).bytes
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=limit))
    path = tmp_path / "K.npy" if on_disk else None
    with pytest.raises(ResourceLimit, match="Use at most 300 inputs") as caught:
        kernel(FullyConnected(), X, path=path)
    assert isinstance(caught.value, MemoryError)
    assert ("path=" in str(caught.value)) == (not on_disk)
    assert computed == []
    assert list(tmp_path.iterdir()) == []
    assert len(kernel(FullyConnected(), X[:300], path=path)) == 300


def test_the_matrix_counts_in_memory_and_not_on_disk() -> None:
    shape = (784,)
    difference = [kernel_cost(FullyConnected(), n, shape, on_disk=False).bytes for n in (20_000, 40_000)]
    assert difference[1] - difference[0] == 8 * (40_000**2 - 20_000**2)
    assert kernel_cost(FullyConnected(), 40_000, shape, on_disk=True).bytes < 2**30
    halves = [kernel_cost(FullyConnected(), 40_000, shape, dtype=dtype).bytes for dtype in ("float32", "float64")]
    assert halves[0] < 0.6 * halves[1]


def test_costs_grow() -> None:
    compiler, *seconds = [kernel_cost(FullyConnected(), n, (784,)).seconds for n in (1, 1000, 10_000, 100_000)]
    assert seconds == sorted(seconds)
    assert 90 < (seconds[2] - compiler) / (seconds[1] - compiler) < 110
    square = kernel_cost(FullyConnected(), 10_000, (784,), n2=10_000)
    assert 1.5 < (square.seconds - compiler) / (seconds[1] - compiler) < 2


@pytest.mark.parametrize(
    ("architecture", "n", "shape", "dtype", "seconds"),
    [
        (FullyConnected(), 4000, (784,), "float64", 0.44),
        (FullyConnected(depth=8), 2000, (64,), "float64", 0.12),
        (Convolutional(readout="flatten"), 400, (28, 28, 1), "float64", 1.28),
        (Convolutional(readout="flatten"), 1500, (8, 8, 1), "float64", 1.24),
        (Convolutional(readout="global-average-pool"), 150, (8, 8, 1), "float64", 1.10),
        (Convolutional(layers=TWO, readout="global-average-pool"), 32, (14, 14, 1), "float64", 0.38),
        (Convolutional(layers=TWO, readout="global-average-pool"), 16, (20, 20, 1), "float64", 1.21),
        (Convolutional(layers=TWO, readout="global-average-pool"), 16, (28, 28, 1), "float64", 6.23),
        (Convolutional(layers=TWO, readout="global-average-pool"), 16, (28, 28, 1), "float32", 2.27),
        (Convolutional(readout="global-average-pool"), 4, (64, 64, 1), "float64", 18.5),
        (Convolutional(readout="global-average-pool"), 4, (96, 96, 1), "float64", 81.0),
        (Convolutional(), 4, (1000, 1000, 3), "float64", 1.47),
        (Residual(), 4, (32, 32, 3), "float64", 1.77),
    ],
)
def test_times_are_those_measured_within_a_factor_of_two(
    architecture: Architecture, n: int, shape: tuple[int, ...], dtype: str, seconds: float
) -> None:
    """Seconds of one core, of a second run: without compilation. From 20 × 20 pixels on covariances of all pairs of
    pixels leave the cache."""
    compilation = seconds_of_compilation(layers_of(architecture), shape)
    job = KernelJob.of(architecture, np.broadcast_to(0.0, (n, *shape)), None, "nngp", dtype)
    assert seconds / 2 < seconds_of_kernel(job, threads=1) - compilation < 2 * seconds


def test_plans_without_jax_equal_those_of_the_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.kernels.cost.cores", lambda: 3)
    for architecture, get in itertools.product((FullyConnected(), Convolutional(), Residual()), ("nngp", "ntk")):
        job = KernelJob.of(architecture, np.broadcast_to(0.0, (50, 12, 12, 1)), None, get, "float32")
        planned = kernel_cost(architecture, 50, (12, 12, 1), get=get, dtype="float32").seconds
        assert seconds_of_kernel(job, threads=3) == pytest.approx(planned)


def test_one_tile_takes_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.kernels.cost.cores", lambda: 4)
    pooled = Convolutional(layers=TWO, readout="global-average-pool")
    compiler = kernel_cost(pooled, 1, (28, 28, 1)).seconds
    one, three = (kernel_cost(pooled, n, (28, 28, 1)).seconds - compiler for n in (8, 16))
    assert three == pytest.approx(one, rel=0.05)


def test_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = with_tiles(monkeypatch, 8)
    kernel_cost(Convolutional(), 10**5, (8, 8, 1))
    assert computed == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"n": 0}, "n"),
        ({"n": 2.5}, "n"),
        ({"n2": -1}, "n2"),
        ({"get": "cov"}, "get"),
        ({"architecture": Convolutional()}, "X"),
    ],
    ids=["no inputs", "half an input", "other inputs", "get", "no images"],
)
def test_arguments(arguments: dict, field: str) -> None:
    good = {"architecture": FullyConnected(), "n": 5, "input_shape": (4,)}
    assert kernel_cost(**good).bytes > 0
    with pytest.raises(InvalidInput) as caught:
        inspect.unwrap(kernel_cost)(**good | arguments)  # without the check of types
    assert caught.value.field == field
