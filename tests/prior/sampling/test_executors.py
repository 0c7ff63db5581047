"""Draws by the workers of an executor are those of one process."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import Convolutional, FullyConnected, sample_functions
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.architecture import Architecture, ConvolutionLayer
from tests.executors.cases import Serial


@pytest.mark.parametrize(
    ("architecture", "source", "networks"),
    [
        (FullyConnected(depth=1, width=5), "networks", 9_000),
        (FullyConnected(depth=1, width=5), "gp", 9_000),
        (Convolutional(layers=(ConvolutionLayer(),), channels=2), "networks", 300),
    ],
)
def test_functions_and_counts_do_not_depend_on_the_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Architecture, source: str, networks: int
) -> None:
    monkeypatch.setenv("NNGP_SHARED", str(tmp_path))
    X = np.random.default_rng(0).standard_normal((6, 5, 5) if architecture.kind == "convolutional" else (6, 3))
    executor, events = Serial(), list[Progress]()
    found = sample_functions(
        architecture, X, networks, seed=4, source=source, executor=executor, progress=events.append
    )
    alone = sample_functions(architecture, X, networks, seed=4, source=source)
    assert np.array_equal(found.functions, alone.functions)
    assert np.array_equal(found.counts, alone.counts)
    assert (found.draws, found.undecided, found.about) == (networks, alone.undecided, alone.about)
    assert executor.submitted > 0
    assert events[-1].done == networks
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_continues_on_an_executor(tmp_path: Path) -> None:
    architecture, X = FullyConnected(depth=1, width=5), np.random.default_rng(0).standard_normal((6, 3))
    path = tmp_path / "draws.npz"
    sample_functions(architecture, X, 5_000, path=path)
    found = sample_functions(architecture, X, 20_000, path=path, executor=Serial())
    assert np.array_equal(found.counts, sample_functions(architecture, X, 20_000).counts)
