import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nngp_prior import (
    Convolutional,
    FromNetwork,
    FullyConnected,
    FunctionCounts,
    kernel,
    log_probability,
    sample_functions,
)
from nngp_prior.architectures import network
from nngp_prior.data import load
from nngp_prior.errors import DataUnavailable, InvalidInput, InvalidLabels, ResourceLimit
from nngp_prior.numerics import checkpoint
from nngp_prior.numerics.threads import use_cores
from nngp_prior.prior.sampling import networks, sample
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Boolean

RNG = np.random.default_rng(5)
X3 = RNG.standard_normal((3, 4))
X5 = RNG.standard_normal((5, 3))
SMALL = FullyConnected(depth=1, width=8)


def same(a: FunctionCounts, b: FunctionCounts) -> bool:
    """Bit for bit."""
    return (
        np.array_equal(a.functions, b.functions)
        and np.array_equal(a.counts, b.counts)
        and np.array_equal(a.zeros, b.zeros)
        and (a.n, a.draws, a.undecided, a.about) == (b.n, b.draws, b.undecided, b.about)
    )


def orthant(K: np.ndarray, labels: np.ndarray) -> float:
    """P of two or three labels: 1/4 + arcsin ρ/2π (Sheppard 1899), 1/8 + Σ arcsin ρ/4π."""
    scale = labels / np.sqrt(K.diagonal())
    angles = [math.asin(K[i, j] * scale[i] * scale[j]) for i, j in itertools.combinations(range(len(K)), 2)]
    return 1 / 4 + angles[0] / (2 * math.pi) if len(K) == 2 else 1 / 8 + sum(angles) / (4 * math.pi)


@pytest.mark.parametrize("source", ["networks", "gp"])
@pytest.mark.parametrize("bias_std", [0.0, 0.7])
@pytest.mark.parametrize("n", [2, 3])
def test_perceptrons_have_the_orthant_probabilities(n: int, bias_std: float, source: str) -> None:
    """A perceptron is a Gaussian process at any width: every function against its closed form, by chi-square."""
    architecture, draws = FullyConnected(depth=0, bias_std=bias_std), 40_000
    found = sample_functions(architecture, X3[:n], draws, source=source)
    K = kernel(architecture, X3[:n])
    functions = np.array(list(itertools.product((-1, 1), repeat=n)))
    expected = np.array([orthant(K, labels) for labels in functions])
    assert expected.sum() == pytest.approx(1)
    counts = [found.count(labels) for labels in functions]
    assert sum(counts) == found.counts.sum() == draws
    assert stats.chisquare(counts, draws * expected).pvalue > 1e-4


@pytest.mark.parametrize("draws", [30_000])
def test_gp_draws_agree_with_smc(draws: int) -> None:
    architecture = FullyConnected(depth=2)
    found = sample_functions(architecture, X5, draws, source="gp", seed=3)
    K = kernel(architecture, X5)
    for _, labels, count, frequency in found.top(8):
        estimate = log_probability(K, labels)
        assert count == pytest.approx(draws * math.exp(frequency.value))
        assert abs(frequency.value - estimate.value) < 4 * math.hypot(frequency.stderr, estimate.stderr)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_wide_networks_are_the_gaussian_process(activation: str) -> None:
    architecture = FullyConnected(depth=2, width=100, activation=activation)
    found = sample_functions(architecture, X5, 8_000)
    K = kernel(architecture, X5)
    for _, labels, _, frequency in found.top(6):
        estimate = log_probability(K, labels)
        assert abs(frequency.value - estimate.value) < 4 * math.hypot(frequency.stderr, estimate.stderr)


@pytest.mark.parametrize("bits", [4])
def test_the_perceptron_has_any_number_of_ones_with_the_same_probability(bits: int) -> None:
    """P(t) = 2⁻ⁿ, t = 0 … 2ⁿ - 1 (Mingard et al. 2019, 1909.11522); the zero vector has no label and is no one."""
    X = load(Boolean(bits=bits, encoding="bits", leave_out_zero=True)).X
    found = sample_functions(FullyConnected(depth=0, bias_std=0), X, 80_000, seed=1)
    ones = (found.labels() > 0).sum(axis=1)
    t = np.bincount(ones, weights=found.counts, minlength=2**bits)
    assert len(t) == 2**bits
    assert t.sum() + found.undecided == 80_000
    assert stats.chisquare(t).pvalue > 1e-4
    for count in t:  # each by itself, exactly
        assert stats.binomtest(int(count), int(t.sum()), 2.0**-bits).pvalue > 1e-4 / 2**bits


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_are_those_of_stax(activation: str, dtype: type) -> None:
    """The same weights in the network that the kernel's tests know."""
    import jax

    architecture = FullyConnected(depth=2, width=6, activation=activation, bias_std=0.5)
    ours = networks.FullyConnectedNetworks(architecture, X5, 0)
    rng = np.random.default_rng(0)
    shapes = [(3, 6), (6, 6), (6, 1)]
    W = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    b = [rng.standard_normal((1, shape[1])).astype(dtype) for shape in shapes]
    f = ours._run([w.T[None].copy() for w in W], [each.reshape(1, -1, 1).copy() for each in b])
    with jax.enable_x64(True):
        parameters = [(W[0], b[0]), (), (W[1], b[1]), (), (W[2], b[2])]
        expected = np.asarray(network(architecture).apply(parameters, X5))[:, 0]
    assert f.dtype == dtype
    assert f[0] == pytest.approx(expected, rel=1e-4 if dtype is np.float32 else 1e-10, abs=1e-5)


def test_weights_have_the_variances_of_the_specification() -> None:
    """The variance of the output, which is the kernel's diagonal, exactly at any width for one hidden layer."""
    architecture = FullyConnected(depth=1, width=5, weight_std=1.3, bias_std=0.4)
    drawn = networks.FullyConnectedNetworks(architecture, X3, 0)
    f = np.concatenate([drawn(block) for block in range(8)]).astype(np.float64)
    squares = f[:, :, None] * f[:, None, :]
    error = squares.std(axis=0) / math.sqrt(len(f))
    assert np.all(np.abs(squares.mean(axis=0) - kernel(architecture, X3)) < 4 * error)


def test_normal_numbers_are_normal() -> None:
    Z = networks.normals(np.random.default_rng(0), 200_001).astype(np.float64)
    assert len(Z) == 200_001
    assert stats.kstest(Z, "norm").pvalue > 1e-3
    pairs = np.corrcoef(Z[:100_000], Z[100_001:])[0, 1]  # cosines and sines of the same angles
    assert abs(pairs) < 4 / math.sqrt(100_000)
    assert np.sum(np.abs(Z) > 4) == pytest.approx(200_001 * 2 * stats.norm.sf(4), abs=4 * math.sqrt(13))


def test_signs_near_zero_are_those_of_float64() -> None:
    """Where a float32 output is small beside the network's others, all of that network's are those of float64."""
    architecture, X = FullyConnected(depth=2, width=20, bias_std=0, weight_std=1), load(Boolean(bits=7)).X
    ours = networks.FullyConnectedNetworks(architecture, X, 0)
    exact: list[np.ndarray] = []

    def keeping(weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
        f = run(weights, biases)
        if weights[0].dtype == np.float32:
            copies = [[A.astype(np.float64) for A in side] for side in (weights, biases)]
            exact.append(run(*copies))
        return f

    run, ours._run = ours._run, keeping
    found = np.concatenate([ours(block) for block in range(2)])
    truth = np.concatenate(exact)
    sizes = np.abs(truth)
    doubtful = sizes.min(axis=1) < 2.0**-17 * sizes.max(axis=1)
    assert 3 < doubtful.sum() < 0.05 * len(doubtful)
    assert np.array_equal(found[doubtful], truth[doubtful])
    assert np.array_equal(found > 0, truth > 0)
    error = np.abs(found - truth).max(axis=1) / sizes.max(axis=1)
    assert 0 < error.max() < networks._DOUBTFUL / 8


@pytest.mark.parametrize("source", ["networks", "gp"])
def test_draws_do_not_depend_on_chunks_cores_or_their_number(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All at once; bit by bit into a file; one block at a time on one core: the same bits."""
    whole = sample_functions(SMALL, X5, 10_000, source=source, seed=2)
    path = tmp_path / "counts.npz"
    for networks_so_far in (1, 4_000, 4_097, 10_000):
        grown = sample_functions(SMALL, X5, networks_so_far, source=source, seed=2, path=path)
        assert grown.draws == networks_so_far == grown.counts.sum() + grown.undecided
    monkeypatch.setattr(sample, "_ROUND", 1)
    with use_cores(1):
        alone = sample_functions(SMALL, X5, 10_000, source=source, seed=2)
    assert same(whole, grown)
    assert same(whole, alone)
    assert same(whole, FunctionCounts.load(path))
    assert not same(whole, sample_functions(SMALL, X5, 10_000, source=source, seed=3))


def user_network() -> FromNetwork:
    return FromNetwork(*network(SMALL), name="small")


IMAGES = RNG.random((4, 5, 5, 1)) - 0.5


@pytest.mark.parametrize(
    ("architecture", "X"),
    [
        (Convolutional(channels=2), IMAGES),
        (FullyConnected(depth=1, width=6, layer_norm=True), X5),
        (user_network(), X5),
    ],
    ids=["convolutional", "layer-norm", "own"],
)
def test_any_architecture(architecture, X: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(networks, "_BLOCK", 64)  # compiled once for any number of networks
    path = tmp_path / "counts.npz"
    sample_functions(architecture, X, 101, path=path)
    found = sample_functions(architecture, X, 300, path=path)
    assert found.counts.sum() + found.undecided == 300
    assert same(found, sample_functions(architecture, X, 300))


def test_networks_of_jax_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample_functions(user_network(), X5, 300)
    monkeypatch.setattr(networks, "_BLOCK", 64)
    assert same(whole, sample_functions(user_network(), X5, 300))


def test_own_networks_and_specifications_agree() -> None:
    """JAX in float64 and NumPy draw from the same distribution."""
    ours, jax_s = sample_functions(SMALL, X3, 4000), sample_functions(user_network(), X3, 4000)
    functions = np.array(list(itertools.product((-1, 1), repeat=3)))
    table = [[counts.count(labels) for labels in functions] for counts in (ours, jax_s)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_outputs_that_are_zero_are_counted_apart() -> None:
    """One ReLU is off at x or at -x, and at both x and 2x with probability ½."""
    X = np.array([[1.0, 2.0], [2.0, 4.0]])
    found = sample_functions(FullyConnected(depth=1, width=1, bias_std=0), X, 8000)
    assert found.counts.sum() + found.undecided == found.draws == 8000
    assert stats.binomtest(found.undecided, 8000, 0.5).pvalue > 1e-4
    assert found.zeros.tolist() == [found.undecided] * 2
    frequency = found.frequency([1, 1])
    assert frequency.value == pytest.approx(math.log(found.count([1, 1]) / 8000))
    assert "exactly 0" in frequency.message
    assert len(found) == 2


def test_an_input_that_is_zero_without_biases_is_refused() -> None:
    X = load(Boolean(bits=3, encoding="bits")).X
    for source in ("networks", "gp"):
        with pytest.raises(InvalidInput, match="input 0 is zero everywhere"):
            sample_functions(FullyConnected(bias_std=0), X, 100, source=source)
    assert sample_functions(FullyConnected(bias_std=0, activation="cos", width=5), X, 100).undecided == 0
    assert sample_functions(FullyConnected(bias_std=0.1, width=5), X, 100).undecided == 0


def test_frequencies_are_estimates_with_exact_intervals(tmp_path: Path) -> None:
    found = sample_functions(SMALL, X5, 5000)
    first = found.top(1)[0]
    assert (first.rank, first.draws) == (1, int(found.counts.max()))
    assert np.array_equal(first.labels, found.labels()[0])
    low, high = found.frequency(first.labels > 0).interval(0.95)
    exact = stats.binomtest(first.draws, 5000).proportion_ci(0.95, "exact")
    assert (math.exp(low), math.exp(high)) == pytest.approx((exact.low, exact.high))
    every = np.array(list(itertools.product((-1, 1), repeat=5)), dtype=np.int8)
    assert sum(found.count(labels) for labels in every) == 5000
    assert [len(found.top(k)) for k in (0, 3, 100)] == [0, 3, len(found)]
    assert all(each.draws >= 200 for each in found.top(100, least=200))
    one = sample_functions(SMALL, X5, 1)
    other = next(labels for labels in every if one.count(labels) == 0)
    assert (one.frequency(other).status, one.frequency(other).value) == ("no-hits", -math.inf)
    with pytest.raises(InvalidLabels):
        found.frequency([1, -1])


def test_progress() -> None:
    told: list[Progress] = []
    sample_functions(SMALL, X5, 9000, progress=told.append)
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1] == Progress("networks", 9000, 9000)
    assert len(told) >= 3


def test_files_of_other_draws_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    sample_functions(SMALL, X5, 500, path=path)
    content = path.read_bytes()
    for changed, what in (({"seed": 1}, "seed"), ({"source": "gp"}, "source")):
        with pytest.raises(InvalidInput, match=what):
            sample_functions(SMALL, X5, 900, path=path, **changed)
    with pytest.raises(InvalidInput, match="another inputs"):
        sample_functions(SMALL, X5 + 1, 900, path=path)
    with pytest.raises(InvalidInput, match="architecture"):
        sample_functions(FullyConnected(), X5, 900, path=path)
    with pytest.raises(InvalidInput, match="500"):
        sample_functions(SMALL, X5, 400, path=path)
    for place in (100, len(content) // 2, len(content) - 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])
        with pytest.raises(DataUnavailable):
            sample_functions(SMALL, X5, 900, path=path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataUnavailable):
        FunctionCounts.load(path)
    np.savez(path, functions=np.zeros((1, 1), np.uint8))
    with pytest.raises(DataUnavailable):
        FunctionCounts.load(path)
    assert os.listdir(tmp_path) == ["counts.npz"]
    with pytest.raises(InvalidInput, match="path"):
        sample_functions(SMALL, X5, 10, path=tmp_path / "no" / "folder.npz")


@pytest.mark.parametrize(
    ("field", "value"),
    [("networks", 0), ("networks", True), ("seed", -1), ("source", "other")],
)
def test_arguments_that_mean_nothing(field: str, value: object) -> None:
    arguments = {"networks": 10} | {field: value}
    with pytest.raises(InvalidInput, match=field):
        sample_functions(SMALL, X5, **arguments)


def test_several_outputs_have_no_sign() -> None:
    import jax.numpy as jnp

    both = FromNetwork(lambda key, shape: ((1, 2), ()), lambda parameters, X: jnp.ones((len(X), 2)), name="both")
    with pytest.raises(InvalidInput, match="2 outputs"):
        sample_functions(both, X5, 10)


def test_what_does_not_fit_is_refused_and_the_file_keeps_what_was_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "counts.npz"
    monkeypatch.setattr(sample, "_ROUND", 1)
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    free = iter([10**9] * 5)

    class Memory:
        @property
        def available(self) -> int:
            return next(free, 0)

    monkeypatch.setattr(sample.psutil, "virtual_memory", Memory)
    with pytest.raises(ResourceLimit, match="different functions"):
        sample_functions(SMALL, X5, 100_000, path=path)
    assert FunctionCounts.load(path).draws > 0


KILLED = """
import sys
import numpy as np
from nngp_prior import FullyConnected, sample_functions
from nngp_prior.numerics import checkpoint
from nngp_prior.prior.sampling import sample
sample._ROUND, checkpoint._INTERVAL, checkpoint._SHARE = 1, 0.0, 1e9
X = np.load(sys.argv[2])
sample_functions(FullyConnected(depth=1, width=8), X, 4_000_000, seed=9, path=sys.argv[1],
                 progress=lambda event: print(event.done, flush=True))
"""


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    path, inputs = tmp_path / "counts.npz", tmp_path / "X.npy"
    np.save(inputs, X5)
    process = subprocess.Popen([sys.executable, "-c", KILLED, path, inputs], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 40_000:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = FunctionCounts.load(path).draws
    assert 0 < done < 4_000_000
    total = done + 5_000
    resumed = sample_functions(SMALL, X5, total, seed=9, path=path)
    assert same(resumed, sample_functions(SMALL, X5, total, seed=9))
