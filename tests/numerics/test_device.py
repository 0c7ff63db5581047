"""The device's linear algebra is the host's; here JAX's device is the processor."""

import jax
import numpy as np
import pytest

from nngp_prior.numerics import backends, device, linalg
from nngp_prior.numerics.backends import Host
from nngp_prior.numerics.device import Device


@pytest.fixture
def narrow_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several panels, the last one narrower, also where matrices are small."""
    monkeypatch.setattr(device, "_NARROWEST", 64)
    jax.clear_caches()


def positive_definite(n: int) -> np.ndarray:
    A = np.random.default_rng(0).standard_normal((n, 2 * n))
    return A @ A.T


def factors(n: int = 150, rank: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """A lower trapezoidal factor and precisions."""
    L = np.tril(linalg.cholesky(np.asfortranarray(positive_definite(n))))[:, :rank]
    return np.asfortranarray(L / np.sqrt(n)), np.random.default_rng(1).gamma(0.5, size=n)


def test_correlation() -> None:
    K = positive_definite(40)
    scale = 1 / np.sqrt(K.diagonal()) * np.where(np.arange(40) % 3, 1, -1)
    for kept in (np.arange(40), np.array([7, 3, 30])):
        for dtype in (np.float64, np.float32):
            here = Device().correlation(K, kept, scale[kept], dtype)
            there = Host().correlation(K, kept, scale[kept], dtype)
            assert here.dtype == there.dtype
            np.testing.assert_allclose(np.tril(here), np.tril(there), rtol=1e-15 if dtype is np.float64 else 1e-6)


@pytest.mark.usefixtures("narrow_panels")
def test_cholesky() -> None:
    C = positive_definite(150)
    L = Device().cholesky(Device().place(C))
    np.testing.assert_allclose(L, linalg.cholesky(np.asfortranarray(C)), rtol=1e-10, atol=1e-10)
    C[100, 100] = -1.0
    assert Device().cholesky(Device().place(C)) is None


@pytest.mark.usefixtures("narrow_panels")
@pytest.mark.parametrize(("rank", "dtype"), [(150, np.float64), (117, np.float64), (150, np.float32)])
def test_posterior_factor(rank: int, dtype: type[np.floating]) -> None:
    L, precision = factors(rank=rank)
    here, log_determinant = Device().posterior_factor(Device().place(L), precision, dtype)
    there, expected = linalg.posterior_factor(L, precision, dtype)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert here.dtype == dtype
    np.testing.assert_allclose(here, there, rtol=tolerance, atol=tolerance)
    assert log_determinant == pytest.approx(expected, rel=tolerance)


def test_small_products_and_parts() -> None:
    L, x = factors(rank=117)
    here = Device().place(L)
    for name, arguments in (
        ("row_squares", ()),
        ("covariance_vector", (x,)),
        ("diagonal", ()),
        ("block", (slice(64, 117),)),
        ("rows", (117, 150)),
        ("to_host", ()),
    ):
        on_device, on_host = (getattr(own, name)(A, *arguments) for own, A in ((Device(), here), (Host(), L)))
        np.testing.assert_allclose(on_device, on_host, rtol=1e-13, atol=1e-15, err_msg=name)
        assert on_device.dtype == np.float64, name
    assert Device().rows(here, 0, 150) is here


def test_auto_asks_jax_only_where_a_plugin_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def default_backend() -> str:
        asked.append("")
        return "gpu"

    monkeypatch.setattr(jax, "default_backend", default_backend)
    for plugins, expected in (([], False), (["cuda"], True)):
        backends._jax_has_gpu.cache_clear()
        monkeypatch.setattr(backends, "entry_points", lambda group, plugins=plugins: plugins)
        assert backends.on_device("auto") is expected
        assert len(asked) == expected
    backends._jax_has_gpu.cache_clear()
    assert backends.on_device("jax")
    assert not backends.on_device("numpy")
