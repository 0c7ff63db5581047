"""Kernels in tiles so small that a few inputs have many."""

import time

import pytest

from nngp_prior.kernels import recursion


def with_tiles(monkeypatch: pytest.MonkeyPatch, tile: int, seconds: float = 0.0) -> list[str]:
    """From now on kernels have tiles of so many rows, and each takes so long; the list grows with each computed."""
    real, computed = recursion.kernel_function, []

    def function(*arguments, **options):
        made = real(*arguments, **options)
        made.tile = tile
        for name in ("within", "between"):
            setattr(made, name, slow(name, getattr(made, name)))
        return made

    def slow(name, method):
        def compute(*inputs):
            time.sleep(seconds)
            computed.append(name)
            return method(*inputs)

        return compute

    monkeypatch.setattr(recursion, "kernel_function", function)
    return computed
