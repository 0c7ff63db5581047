"""Kernels in tiles so small that a few inputs have many."""

import time

import pytest

from nngp_prior.kernels import recursion


class Counted:
    """A recursion with another size of tiles, which says what was asked of it."""

    def __init__(self, real, tile: int, seconds: float, computed: list[str]) -> None:
        self._real, self._seconds, self._computed = real, seconds, computed
        self.tile, self.bytes_per_pair = tile, real.bytes_per_pair
        self.prepare = real.prepare

    def within(self, P):
        return self._tile("within", P)

    def between(self, P, P2):
        return self._tile("between", P, P2)

    def _tile(self, name: str, *inputs):
        time.sleep(self._seconds)
        self._computed.append(name)
        return getattr(self._real, name)(*inputs)


def with_tiles(monkeypatch: pytest.MonkeyPatch, tile: int, seconds: float = 0.0) -> list[str]:
    """From now on kernels have tiles of so many rows, and each takes so long; the list grows with each computed."""
    real, computed = recursion.kernel_function, []
    monkeypatch.setattr(
        recursion,
        "kernel_function",
        lambda *arguments, **options: Counted(real(*arguments, **options), tile, seconds, computed),
    )
    return computed
