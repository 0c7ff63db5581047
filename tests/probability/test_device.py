"""The device's path against the host's; JAX's device is the processor here, but for tests marked ``gpu``."""

import math

import numpy as np
import pytest

import nngp_prior.probability.cost
from nngp_prior import estimate_cost, log_probability
from nngp_prior.errors import ResourceLimit
from nngp_prior.probability.ep import EPResult, expectation_propagation
from nngp_prior.probability.factored_kernel import prepare
from nngp_prior.progress import ignore
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import RandomLabels, Threshold
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth


def on_both(K: np.ndarray, labels: np.ndarray, **options) -> tuple[Estimate, Estimate]:
    device, host = (log_probability(K, labels, backend=backend, **options) for backend in ("jax", "numpy"))
    return device, host


def of_low_rank(n: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A singular kernel, and a labelling that it allows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, rank))
    return X @ X.T, np.where(X @ rng.standard_normal(rank) > 0, 1, -1)


@pytest.mark.parametrize(("precision", "tolerance", "rounding"), [("float64", 1e-9, 1e-9), ("float32", 0.1, 1e-3)])
def test_sites_are_those_of_the_host(precision, tolerance: float, rounding: float) -> None:
    """Two blocks, the second one not full."""
    K, labels = digits(200, Threshold(at=5))
    results: list[EPResult] = []
    for backend in ("jax", "numpy"):
        parameters = SMC(backend=backend, precision=precision, tolerance=tolerance, max_sweeps=20)
        kernel = prepare(K, parameters)
        results.append(expectation_propagation(kernel, labels.astype(float), parameters, ignore))
    device, host = results
    np.testing.assert_allclose(device.sites.precision, host.sites.precision, rtol=rounding)
    np.testing.assert_allclose(device.sites.shift, host.sites.shift, rtol=rounding)
    assert device.log_z == pytest.approx(host.log_z, abs=rounding)
    assert device.sweeps == host.sweeps
    assert device.drift == pytest.approx(host.drift, abs=1e-3)


@pytest.mark.parametrize(
    ("case", "shares", "resampled"),
    [
        (digits(200, Threshold(at=5)), (0.1, 0.6, 0.3), False),
        (digits(200, RandomLabels()), (0.4, 0.02, 0.58), True),
        (of_low_rank(60, 40), (0.1, 0.6, 0.3), False),
    ],
    ids=["last block not full", "resampling", "singular"],
)
def test_replicates_are_those_of_the_host(case: tuple[np.ndarray, np.ndarray], shares, resampled: bool) -> None:
    """With the same points and the same mixture, every replicate is the same to rounding."""
    device, host = on_both(*case, shares=shares, precision="float64", particles=64, replicates=16)
    assert device.evidence is not None
    assert host.evidence is not None
    np.testing.assert_allclose(device.evidence.log_estimates, host.evidence.log_estimates, atol=1e-6)
    assert device.diagnostics["rank"] == host.diagnostics["rank"]
    assert device.diagnostics["resamplings"] == host.diagnostics["resamplings"]
    assert (device.diagnostics["resamplings"] > 0) == resampled


def test_the_default_agrees_with_the_host_and_with_the_closed_form() -> None:
    labels = equicorrelated_labels(200, "mixed")
    device, host = on_both(equicorrelated(200, 0.5), labels, replicates=8)
    assert device.diagnostics["ep_precision"] == "float32"
    for other in (host.value, equicorrelated_truth(0.5, labels)):
        assert abs(device.value - other) < 4 * math.hypot(device.stderr or 0, host.stderr or 0)
    assert device.stderr == pytest.approx(host.stderr, rel=0.1)
    again = log_probability(equicorrelated(200, 0.5), labels, backend="jax", replicates=8)
    assert again.value == device.value


def test_groups_of_replicates_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    K, labels = digits(200, Threshold(at=5))
    options = {"backend": "jax", "particles": 64, "replicates": 16, "shares": (0.1, 0.6, 0.3)}
    together = log_probability(K, labels, **options)
    monkeypatch.setattr(nngp_prior.probability.replicates, "COLUMNS_ON_DEVICE", 512)
    assert log_probability(K, labels, **options).value == pytest.approx(together.value, abs=1e-9)


@pytest.mark.parametrize("method", ["ep", "ep2"])
def test_other_estimators_with_ep(method: str) -> None:
    K, labels = digits(200, Threshold(at=5))
    device, host = on_both(K, labels, method=method, precision="float64")
    assert device.value == pytest.approx(host.value, abs=1e-9)
    assert device.status == host.status


def test_the_memory_of_the_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    free = estimate_cost(1000, backend="jax").bytes
    monkeypatch.setattr(nngp_prior.probability.cost, "_free_on_device", lambda: free)
    with pytest.raises(ResourceLimit, match=r"smc on n = 1,001 .* GiB of the device .* Use at most 1,000 inputs"):
        log_probability(equicorrelated(1001, 0.5), np.ones(1001, dtype=int), backend="jax")


def test_fifty_thousand_inputs_fit_into_eighty_gigabytes() -> None:
    for method in ("smc", "ep"):
        assert estimate_cost(50_000, method, backend="jax").bytes < 80e9


@pytest.mark.gpu
def test_a_gpu_is_used_by_default_and_agrees_with_the_host() -> None:
    import jax

    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU")
    labels = equicorrelated_labels(2000, "mixed")
    K = equicorrelated(2000, 0.5) * np.outer(*(np.linspace(1, 2, 2000),) * 2)
    peak = jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    default = log_probability(K, labels)
    assert jax.devices()[0].memory_stats()["peak_bytes_in_use"] > peak + 2 * K.nbytes
    host = log_probability(K, labels, backend="numpy")
    for other in (host.value, equicorrelated_truth(0.5, labels)):
        assert abs(default.value - other) < 4 * math.hypot(default.stderr or 0, host.stderr or 0)
    options = {"shares": (0.1, 0.6, 0.3), "precision": "float64", "particles": 64, "replicates": 16}
    device, host = on_both(K, labels, **options)
    assert device.evidence is not None
    assert host.evidence is not None
    np.testing.assert_allclose(device.evidence.log_estimates, host.evidence.log_estimates, atol=1e-6)
