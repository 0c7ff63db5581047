"""Kernels of random networks against the analytic ones of neural-tangents."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import psutil
import pytest

import nngp_prior.kernels.finite as finite
from nngp_prior import FromNetwork, MonteCarlo, MonteCarloKernel, monte_carlo_kernel
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.architecture import (
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    PoolingLayer,
    Residual,
)
from tests.kernels.random_networks import IMAGES, LINEAR, LOWER, VECTORS, analytic, largest_z

ONE_LAYER = Convolutional(layers=(ConvolutionLayer(),), channels=4)

# One layer of random features before the readout: the mean over networks is the analytic kernel at any width.
UNBIASED = {
    "relu": FullyConnected(depth=1, width=3),
    "erf": FullyConnected(depth=1, width=3, activation="erf", bias_std=0.4),
    "gelu": FullyConnected(depth=1, width=3, activation="gelu", weight_std=1.2),
    "flatten": ONE_LAYER,
    "average": ONE_LAYER.model_copy(update={"readout": "global-average-pool"}),
    "pooling": ONE_LAYER.model_copy(update={"layers": (ConvolutionLayer(padding="circular"), PoolingLayer())}),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_one_layer_has_the_analytic_kernel_at_any_width(name: str) -> None:
    architecture = UNBIASED[name]
    K = analytic(architecture)
    found = monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=512))
    assert np.array_equal(found.K, found.K.T)
    assert largest_z(found, K) < 1
    assert largest_z(found, 1.5 * K) > 1


# Where layers follow each other, K̃ differs by a multiple of 1/width, which is far below its error here.
DEEP = {
    "fully connected": FullyConnected(depth=3, width=512),
    "layer norm": FullyConnected(depth=1, width=512, layer_norm=True),
    "two convolutions": Convolutional(
        layers=(ConvolutionLayer(padding="valid"), ConvolutionLayer(stride=2)),
        channels=128,
        readout="global-average-pool",
    ),
    "residual": Residual(groups=1, channels=64, bias_std=0.3),
}


@pytest.mark.filterwarnings("ignore:`FanIn` layers assume independent inputs")
@pytest.mark.parametrize("name", DEEP)
def test_deep_and_wide_networks_have_nearly_the_analytic_kernel(name: str) -> None:
    found = monte_carlo_kernel(DEEP[name], IMAGES, MonteCarlo(networks=64))
    K = analytic(DEEP[name])
    assert largest_z(found, K) < 1
    assert np.all(found.stderr < 0.1 * np.sqrt(np.outer(K.diagonal(), K.diagonal())))


def test_the_finite_width_shows_and_is_inverse_to_the_width() -> None:
    """Three hidden layers of 4 and of 16 units: the first differs clearly, the second by a quarter of that."""
    found, differences, errors = {}, {}, {}
    for width in (4, 16):
        architecture = FullyConnected(depth=3, width=width, activation="erf", weight_std=2.0)
        K = analytic(architecture)
        found[width] = monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=8192, batches=64))
        # One number with a small error: the mean over batches of the mean diagonal.
        means = [
            np.mean(total.diagonal()) / size for total, size in zip(found[width].sums, found[width].sizes, strict=True)
        ]
        differences[width] = np.mean(means) - np.mean(K.diagonal())
        errors[width] = np.std(means, ddof=1) / math.sqrt(len(means))
    assert largest_z(found[4], K) > 1.5
    assert abs(differences[4]) > 8 * errors[4]
    ratio = differences[16] / differences[4]
    error = math.hypot(errors[16], ratio * errors[4]) / abs(differences[4])
    assert abs(ratio - 0.25) < 4 * error + 0.05  # the next order, 1/width²
    assert error < 0.1


def test_penultimate_features_have_the_same_mean_and_a_smaller_error_than_outputs() -> None:
    architecture = FullyConnected(depth=1, width=32, activation="erf", bias_std=0.5)
    K = analytic(architecture)
    few = MonteCarlo(networks=512, features="outputs")
    outputs, many, exact = (
        monte_carlo_kernel(architecture, IMAGES, few.model_copy(update=update))
        for update in ({}, {"outputs": 16}, {"features": "penultimate"})
    )
    for found in (outputs, many, exact):
        assert largest_z(found, K) < 1
    assert [found.units for found in (outputs, many, exact)] == [1, 16, 32]
    assert np.mean(many.stderr / outputs.stderr) < 0.6
    assert np.mean(exact.stderr / many.stderr) < 0.8
    assert np.mean(exact.stderr / outputs.stderr) < 0.25


def test_a_perceptron_has_its_kernel_without_error() -> None:
    """Its penultimate features are the inputs."""
    architecture = FullyConnected(depth=0, weight_std=1.7, bias_std=0.3)
    found = monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=2))
    assert pytest.approx(analytic(architecture), rel=1e-13) == found.K
    assert found.stderr.max() < 1e-15


def test_standard_errors_are_calibrated() -> None:
    """Over 60 kernels z has a standard deviation near 1 (1.03: Student's t, 31 degrees of freedom)."""
    architecture = FullyConnected(depth=1, width=8)
    K = analytic(architecture)
    X = VECTORS
    # The same networks are drawn once and dealt out: 60 kernels of 72 networks in 32 batches of two or three each.
    with jax.enable_x64(True):
        features = finite.features_of(architecture, MonteCarlo())
        drawer = finite.Drawer(features, X, 7, 60 * 72)
        H = drawer(range(drawer.group))
    assert len(H) == 60 * 72
    K_r = features.offset + features.scale / 8 * np.einsum("rnu,rmu->rnm", H, H)
    z = []
    for part in K_r.reshape(60, 72, 4, 4):
        cuts = np.arange(33) * 72 // 32
        sums = tuple(part[start:stop].sum(axis=0) for start, stop in itertools.pairwise(cuts))
        found = MonteCarloKernel(MonteCarlo(networks=72), sums, np.diff(cuts), 8, True)
        assert pytest.approx(part.mean(axis=0), rel=1e-12) == found.K
        z.append(((found.K - K) / found.stderr)[LOWER])
    assert 0.85 < np.sqrt(np.mean(np.square(z))) < 1.2
    assert abs(np.mean(z)) < 0.5


class Interruption(Exception):
    pass


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_GROUP", 2 * 16)  # networks of a batch are drawn two by two
    monte_carlo = MonteCarlo(networks=30, batches=5)
    whole = monte_carlo_kernel(LINEAR, VECTORS, monte_carlo)
    seen: list[Progress] = []

    def interrupt(event: Progress) -> None:
        seen.append(event)
        if event.done == 16:  # in the third batch
            raise Interruption

    with pytest.raises(Interruption):
        monte_carlo_kernel(LINEAR, VECTORS, monte_carlo, state=tmp_path, progress=interrupt)
    assert [event.done for event in seen] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert len(list(tmp_path.glob("*/batch-*.npy"))) == 2
    seen.clear()
    resumed = monte_carlo_kernel(LINEAR, VECTORS, monte_carlo, state=tmp_path, progress=seen.append)
    assert [event.done for event in seen] == [12, 14, 16, 18, 20, 22, 24, 26, 28, 30]
    assert {event.total for event in seen} == {30}
    assert np.array_equal(resumed.K, whole.K)
    assert np.array_equal(resumed.stderr, whole.stderr)
    assert not list(tmp_path.glob("*/*.part"))
    # A broken file is computed anew, another ridge is served by the same files, another seed or input is not.
    broken = sorted(tmp_path.glob("*/batch-*.npy"))[3]
    broken.write_bytes(broken.read_bytes()[:100])
    ridged = monte_carlo.model_copy(update={"ridge": 0.1})
    seen.clear()
    again = monte_carlo_kernel(LINEAR, VECTORS, ridged, state=tmp_path, progress=seen.append)
    assert [event.done for event in seen] == [24, 26, 28, 30]
    assert again.diagonal_shift == pytest.approx(0.1 * np.mean(whole.K.diagonal()), rel=1e-14)
    assert pytest.approx(whole.K + again.diagonal_shift * np.eye(4), rel=1e-14) == again.K
    assert np.array_equal(again.stderr, whole.stderr)
    for other in (monte_carlo.model_copy(update={"seed": 1}), monte_carlo.model_copy(update={"networks": 31})):
        monte_carlo_kernel(LINEAR, VECTORS, other, state=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["batch-00001.npy", "batch-00001.npy.tiles"])
def test_a_batch_with_one_changed_bit_is_computed_again(tmp_path: Path, name: str) -> None:
    monte_carlo = MonteCarlo(networks=6, batches=3)
    whole = monte_carlo_kernel(LINEAR, VECTORS, monte_carlo)
    monte_carlo_kernel(LINEAR, VECTORS, monte_carlo, state=tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    content = path.read_bytes()
    for bit in range(8 * len(content) - 1, 0, -len(content) // 2):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        again = monte_carlo_kernel(LINEAR, VECTORS, monte_carlo, state=tmp_path)
        assert np.array_equal(again.K, whole.K)
        assert np.array_equal(again.stderr, whole.stderr)
        assert path.read_bytes() == content


def test_the_cost_comes_first_and_is_that_of_missing_networks(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((4, 3))
    costs = []
    for networks in (4, 8, 8):
        seen: list[Progress] = []
        how = MonteCarlo(networks=networks, batches=2)
        monte_carlo_kernel(FullyConnected(width=50), X, how, state=tmp_path, progress=seen.append)
        assert [event.cost for event in seen[1:]] == [None] * (len(seen) - 1)
        costs.append(seen[0].cost)
    few, more, none = costs
    assert few is not None
    assert more is not None
    assert few.seconds < more.seconds
    assert none is None  # all batches are there


def test_a_network_is_the_same_however_many_there_are_and_in_whatever_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    few = monte_carlo_kernel(LINEAR, VECTORS, MonteCarlo(networks=4, batches=4))
    many = monte_carlo_kernel(LINEAR, VECTORS, MonteCarlo(networks=6, batches=6))
    for total, same in zip(few.sums, many.sums[:4], strict=True):
        assert same == pytest.approx(total, rel=1e-13)
    assert len({total.tobytes() for total in many.sums}) == 6
    monkeypatch.setattr(finite, "_LARGEST", 3)  # three inputs at a time, so that four are two chunks of two
    chunks = monte_carlo_kernel(LINEAR, np.concatenate([VECTORS, VECTORS[:1]]), MonteCarlo(networks=4, batches=4))
    assert chunks.K[:4, :4] == pytest.approx(few.K, rel=1e-13)
    assert chunks.K[4, :4] == pytest.approx(few.K[0], rel=1e-13)


@pytest.mark.parametrize("architecture", [FullyConnected(depth=1, width=3), LINEAR], ids=["own", "user's"])
def test_a_network_is_compiled_once(architecture: Architecture | FromNetwork) -> None:
    """Also with other seeds; another number of networks is another shape."""
    finite._compiled.cache_clear()
    first = monte_carlo_kernel(architecture, VECTORS, MonteCarlo(networks=8, batches=4))
    again, other = (
        monte_carlo_kernel(architecture, VECTORS, MonteCarlo(networks=8, batches=4, seed=seed)) for seed in (0, 1)
    )
    assert np.array_equal(again.K, first.K)
    assert not np.array_equal(other.K, first.K)
    found = finite._compiled.cache_info()
    assert (found.misses, found.hits) == (1, 2)
    features = finite.features_of(architecture, MonteCarlo())
    for function in finite._compiled(features, (1, 16)):
        assert function._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]


def test_rank_is_limited_by_networks_times_outputs_and_mended_by_a_ridge() -> None:
    three = MonteCarlo(networks=3)
    found = monte_carlo_kernel(LINEAR, VECTORS, three)
    assert found.rank == found.rank_limit == 3
    assert found.condition == math.inf
    ridged = monte_carlo_kernel(LINEAR, VECTORS, three.model_copy(update={"ridge": 0.01}))
    assert (ridged.rank, ridged.rank_limit) == (4, 3)
    assert 10 < ridged.condition < 1000
    enough = monte_carlo_kernel(LINEAR, VECTORS, MonteCarlo(networks=30))
    assert enough.rank == enough.rank_limit == 4
    values = np.linalg.eigvalsh(enough.K / np.sqrt(np.outer(enough.K.diagonal(), enough.K.diagonal())))
    assert enough.condition == pytest.approx(values[-1] / values[0], rel=1e-9)


@pytest.mark.parametrize(
    ("architecture", "X", "message"),
    [
        (ONE_LAYER, VECTORS, r"X: has shape \(4, 16\) where a convolutional network takes images"),
        (ONE_LAYER, np.full((2, 4, 4), np.nan), "X: input 0 has the value nan"),
        (FullyConnected(), VECTORS[0], r"X: has shape \(16,\)"),
        (FullyConnected(), [["a"]], "X: is not an array of real numbers"),
        (FullyConnected(), 1e200 * VECTORS, "X: the kernel of input 0 overflows"),
    ],
    ids=["vectors", "nan", "one axis", "text", "too large"],
)
def test_inputs_that_cannot_be_used_are_named(architecture: Architecture, X: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        monte_carlo_kernel(architecture, X, MonteCarlo(networks=2))


def test_what_does_not_fit_is_refused_before_any_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 4 * (8 * 4 + 2 * 2 * 16)))
    architecture = FullyConnected(depth=0)  # its 16 features are the inputs
    with pytest.raises(ResourceLimit, match=r"fewer batches, or state=… \(a folder\)"):
        monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=12, batches=6))
    monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=12, batches=6), state=tmp_path)
    monte_carlo_kernel(architecture, IMAGES, MonteCarlo(networks=10, batches=5))


def test_other_things_are_no_specification() -> None:
    with pytest.raises(InvalidInput, match="networks: got 1"):
        MonteCarlo(networks=1)
    with pytest.raises(InvalidInput, match="ridge: got -1"):
        MonteCarlo(ridge=-1)
    assert MonteCarlo(ridge=0.1).content_hash != MonteCarlo().content_hash
