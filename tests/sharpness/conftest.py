"""Compilation without optimisations, which takes longer than all that tests of measures compute."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
