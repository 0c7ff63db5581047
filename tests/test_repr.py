"""What notebooks and prompts show: one line for each result, tables where they help, public names."""

import importlib
import pkgutil
import re

import numpy as np
import pytest

import nngp_prior
from nngp_prior import (
    FullyConnected,
    LocalClient,
    MonteCarlo,
    contributions,
    kernel,
    learning_curve,
    log_probability,
    monte_carlo_kernel,
    pac_bayes_bounds,
    posterior,
    sample_functions,
)
from nngp_prior.client import Event, Status
from nngp_prior.data import load
from nngp_prior.data.splits import training_sets
from nngp_prior.kernels import KernelCache, KernelJob, inspect
from nngp_prior.probability import ep_start
from nngp_prior.schemas.specs.data import Digits, Inline, Threshold
from nngp_prior.sharpness import EmpiricalRisk, Landscape, Training, landscape, measure, spectral_density, train

NET = FullyConnected(depth=1, width=3)
X = np.random.default_rng(0).standard_normal((30, 4))
Y = np.where(X[:, 0] > 0, 1, -1)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A result of each public class, by its name."""
    K = kernel(NET, X)
    cache = KernelCache(tmp_path_factory.mktemp("kernels"), 10**9)
    cache.kernel(NET, X)
    trained = train(NET, X, Y, Training(epochs=2, batch_size=8), seeds=3)
    risk = EmpiricalRisk.of(NET, trained.network(0), X, Y)
    given = posterior(K, Y[:20])
    counts = sample_functions(NET, X[:3], 500)
    client = LocalClient(cache)
    jobs = [
        client.estimate(NET, X, np.array([Y] * 40), method="ep"),
        client.bound(NET, X, Y),
        client.posterior(NET, X, Y, train=20),
        client.sample(NET, X[:5], 100),
        client.sharpness(NET, trained.network(0), X, Y, ["trace"]),
    ]
    sent = [job.result() for job in jobs]
    curve = learning_curve(K, Y, [5, 10, 15, 20, 25, 30])
    document = {"id": "7eba9086" * 8, "state": "running", "progress": {"current": 1, "target": 2, "unit": "labellings"}}
    found = [
        log_probability(K, Y), pac_bayes_bounds(log_probability(K, Y))["realizable"], curve, curve[0], given,
        given.predictive(), given.gibbs_error(Y[20:]), given.vote_error(Y[20:]), contributions(K, Y, sizes=[10, 20]),
        counts, next(iter(counts.top(1))), monte_carlo_kernel(NET, X, MonteCarlo(networks=4)), inspect(K),
        *cache.entries(), KernelJob.of(NET, X, None, "nngp", "float64"), ep_start(K, Y), load(Digits(n=50)),
        training_sets(Digits(n=50), Threshold(at=5)), Inline(x=tuple(map(tuple, X.tolist()))),
        trained, trained.finite, risk, measure(NET, trained.network(0), X, Y, ["trace", "frobenius"]),
        spectral_density(risk), landscape(NET, trained.network(0), X, Y, Landscape(points=5)),
        *jobs, *sent, *(each[0] for each in sent), client, Status(document), Event("1", "rows", list(range(1000))),
    ]  # fmt: skip
    named: dict[str, object] = {}
    for each in found:
        name = type(each).__name__
        named[name if name not in named else f"{name} {len(named)}"] = each
    return named


def test_each_result_is_one_line(results: dict[str, object]) -> None:
    shown = {name: repr(result) for name, result in results.items()}
    assert {name: text for name, text in shown.items() if len(text) > 300 or "\n" in text or "array(" in text} == {}
    assert repr(results["Trained"]).startswith("<Trained 3 networks of 19 parameters: ")
    assert repr(results["LearningCurve"]).startswith("<LearningCurve 6 points: realizable bound ")
    assert repr(results["Contributions"]).startswith("<Contributions of 30 inputs, 3 parts, log P = -")
    for name in ("RankedFunction", "SampledFunction"):
        assert re.match(rf"<{name} rank 1, \d+ draws?: log P = -", repr(results[name]))
    assert repr(results["Estimate"]).startswith("log P = -")
    assert repr(results["Data"]).startswith("Data(X=float64(50, 64), classes=int64(50,), ")


def test_tables_for_notebooks_have_a_row_for_each_part(results: dict[str, object]) -> None:
    rows = {
        type(result).__name__: result._repr_html_().count("<tr>")  # pyright: ignore[reportAttributeAccessIssue]
        for result in results.values()
        if hasattr(result, "_repr_html_")
    }
    assert rows["Trained"] == 1 + 3
    assert rows["LearningCurve"] == 1 + 6
    assert rows["Results"] == 1 + 20  # of 40
    assert {"Report", "BoundResults", "PosteriorResults", "SharpnessResults"} <= set(rows)


PACKAGES = [
    name
    for _, name, is_package in pkgutil.walk_packages(nngp_prior.__path__, "nngp_prior.")
    if is_package and hasattr(importlib.import_module(name), "__all__")
]


@pytest.mark.parametrize("name", ["nngp_prior", *PACKAGES])
def test_dir_shows_public_names_alone_and_all_of_them_are_there(name: str) -> None:
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    assert all(getattr(package, each) is not None for each in package.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert nngp_prior.__version__ == importlib.import_module("importlib.metadata").version("nngp-prior")
