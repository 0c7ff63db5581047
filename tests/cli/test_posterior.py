from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, function_posterior, kernel, posterior
from nngp_prior.data import label, load
from nngp_prior.schemas.results.class_predictive import ClassPredictive
from nngp_prior.schemas.results.posterior import PosteriorResult
from nngp_prior.schemas.specs.data import Digits, Flip, Parity, Threshold
from tests.cases import equicorrelated
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused
from tests.client.service import TOKEN, fake_service

TOLERANCE = 1e-9


def assert_is(row: dict, found, test: np.ndarray) -> None:
    """A result is that of a posterior of the library."""
    assert row["log_p"] == pytest.approx(found.log_p.value, abs=TOLERANCE)
    np.testing.assert_allclose(row["test"]["predictive"]["value"], found.predictive().value, atol=TOLERANCE)
    np.testing.assert_allclose(row["test"]["predictive"]["stderr"], found.predictive().stderr, atol=TOLERANCE)
    gibbs, vote, given = found.gibbs_error(test), found.vote_error(test), found.log_probability(test)
    assert row["test"]["gibbs_error"]["value"] == pytest.approx(gibbs.value, abs=TOLERANCE)
    assert row["test"]["vote_error"] == {
        "value": vote.value, "low": vote.low, "high": vote.high, "uncertain": vote.uncertain
    }  # fmt: skip
    assert float(row["test"]["log_p"]) == pytest.approx(given.value, abs=TOLERANCE)
    assert row["test"]["stderr"] == pytest.approx(given.stderr, abs=TOLERANCE)


def test_json_is_what_python_computes(run) -> None:
    options = ("--train", 40, "-n", 50, "--labelling", "parity", "--labelling", "threshold:5", "--corrupt", "flip:3")
    ended = run("posterior", *options, "--seed", 3, "--particles", 16, "--depth", 1, "--json")
    assert ended.code == 0
    document = parse(ended.out)
    assert (document["units"], document["n"], document["train"], document["seed"]) == ("nats", 50, 40, 3)
    assert document["estimator"]["particles"] == 16
    data = load(Digits(n=50))
    K = kernel(FullyConnected(depth=1), data.X)
    flip = Flip(count=3)
    assert [row["name"] for row in document["results"]] == ["parity, flip:3", "threshold:5, flip:3"]
    for row, each in zip(document["results"], (Parity(corruption=flip), Threshold(at=5, corruption=flip)), strict=True):
        y = label(each, data.classes)
        assert_is(row, posterior(K, y[:40], seed=3, particles=16), y[40:])


def test_table_and_files(run, tmp_path: Path) -> None:
    K, y = equicorrelated(12, 0.5), np.array([[1] * 12, [1, -1] * 6])
    K[11], K[:, 11] = K[0], K[:, 0]
    K[11, 11] = 1.0
    np.save(tmp_path / "K.npy", K)
    np.save(tmp_path / "y.npy", y)
    options = ("posterior", "-m", 8, "--kernel-file", tmp_path / "K.npy", "--labels-file", tmp_path / "y.npy")
    document = parse(run(*options, "--json").out)
    for row, labels in zip(document["results"], y, strict=True):
        assert_is(row, posterior(K, labels[:8]), labels[8:])
    assert document["results"][1]["test"]["log_p"] == "-Infinity"
    ended = run(*options)
    assert ended.code == 0
    printed = ended.out
    for row in document["results"]:
        assert f"{row['test']['gibbs_error']['value']:.4f} ± " in printed
        assert f"{row['test']['vote_error']['value']:.4f} (" in printed
    assert "8 training inputs, 4 test inputs" in printed
    assert "impossible" in printed
    assert "inputs 0 and 11" in ended.err


def test_bad_input(run, tmp_path: Path) -> None:
    assert_refused(run("posterior", "--train", 0), "--train", "0")
    assert_refused(run("posterior", "--train", 20, "-n", 20), "--train", "20 inputs")
    np.save(tmp_path / "K.npy", np.ones((3, 3)))
    np.save(tmp_path / "y.npy", np.array([1, -1, 1]))
    files = ("--kernel-file", tmp_path / "K.npy", "--labels-file", tmp_path / "y.npy")
    assert_refused(run("posterior", "--train", 2, *files), "labels", "inputs 0 and 1")
    assert_refused(run("posterior", "--train", 2, "-n", 3, *files), "--n", "--kernel-file")
    np.save(tmp_path / "y.npy", np.array([1, 1]))
    assert_refused(run("posterior", "--train", 2, *files), "labels-file", "2 labels")
    np.save(tmp_path / "y.npy", np.array([0, 0, 3]))
    assert_refused(run("posterior", "--train", 2, *files, "--label-classes", 3), "labels[2] is 3", "--label-classes 3")
    assert_refused(run("posterior", "--train", 2, *files, "--label-classes", 1), "--label-classes", "1")


def test_three_classes(run, tmp_path: Path) -> None:
    data = load(Digits(n=30, classes=(0, 1, 2)))
    np.save(tmp_path / "y.npy", data.classes)
    few = ("--particles", 8, "--replicates", 8, "--json")
    ended = run("posterior", "--train", 20, "-n", 30, "--classes", "0,1,2", "--labelling", "classes", *few)
    assert ended.code == 0, ended.err
    (row,) = parse(ended.out)["results"]
    found = function_posterior(
        FullyConnected(), data.X[:20], data.classes[:20], data.X[20:], classes=3, particles=8, replicates=8
    )
    predictive = PosteriorResult(row).predictive
    assert isinstance(predictive, ClassPredictive)
    for name in ("value", "stderr", "margin_stderr"):
        np.testing.assert_allclose(getattr(predictive, name), getattr(found.predictive(), name), rtol=1e-12)
    assert row["test"]["gibbs_error"]["value"] == pytest.approx(found.gibbs_error(data.classes[20:]).value)
    assert row["test"]["vote_error"]["value"] == found.vote_error(data.classes[20:]).value
    assert row["test"]["log_p"] == pytest.approx(found.log_probability(data.classes[20:]).value)


def test_posteriors_of_a_service(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_service() as service:
        monkeypatch.setenv("NNGP_URL", service.url)
        monkeypatch.setenv("NNGP_TOKEN", TOKEN)
        asked = []
        submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
        options = ("posterior", "--train", 2, "-n", 4, "--labelling", "parity", "--particles", 64, "--seed", 5)
        document = parse(run(*options, "--json").out)
        (request,) = asked
        assert service.work == "posteriors"
        assert (request["train"], request["dataset"]["n"], request["seed"]) == (2, 4, 5)
        assert request["estimator"]["particles"] == 64
        (row,) = document["results"]
        assert (row["name"], row["log_p"], row["test"]["log_p"]) == ("parity", -10.0, -15.0)
        assert row["test"]["predictive"]["value"] == [0.75, 0.75]
        printed = run(*options).out
        assert "2 training inputs, 2 test inputs" in printed
        assert "0.2500 ± 0.1250" in printed
        assert "0.5000 (0.0000 … 1.0000)" in printed
        (job,) = service.jobs
        again = run("jobs", "results", job).out
        assert "2 training inputs, 2 test inputs" in again
        assert "0.2500 ± 0.1250" in again
        assert parse(run("jobs", "results", job, "--json").out)["results"][0]["test"] == row["test"]
        np.save(tmp_path / "K.npy", np.eye(2))
        assert_refused(run("posterior", "--train", 1, "--kernel-file", tmp_path / "K.npy"), "--kernel-file", "NNGP_URL")
