"""``estimate --trained``, and networks trained and measured on files."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, function_probability
from nngp_prior.sharpness import Trained, measure
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused

X = np.random.default_rng(0).standard_normal((20, 3))
Y = np.where(X[:, 0] > 0, 1, -1)
HOW = ("--width", 8, "--depth", 1, "--learning-rate", 0.3, "--batch-size", 5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of inputs and labels, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", images=X, labels=Y)
    np.savez("bits.npz", images=X, labels=(Y + 1) // 2)
    np.save("X.npy", X)
    np.savetxt("y.csv", Y, fmt="%d")
    return tmp_path


def test_functions_of_networks_that_were_trained_on_files(run, folder: Path) -> None:
    ended = run(
        "sharpness", "train", "--inputs-file", "own.npz", "--test", 6, "--seeds", 2, *HOW, "--out", "t.npz", "--json"
    )
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert (document["n"], document["test"], document["inputs_file"]) == (14, 6, str(folder / "own.npz"))
    trained = Trained.load("t.npz")
    assert trained.test_labels is not None
    assert np.array_equal(trained.test_labels, Y[14:])
    document = parse(run("estimate", "--trained", "t.npz", "--method", "ep", "--json").out)
    assert [row["name"] for row in document["results"]] == ["network 0", "network 1"]
    for i, row in enumerate(document["results"]):
        assert row["log_p"] == pytest.approx(function_probability(trained, i, method="ep").value, abs=1e-9)
    (one,) = parse(run("estimate", "--trained", "t.npz", "--network", 1, "--method", "ep", "--json").out)["results"]
    assert one["log_p"] == document["results"][1]["log_p"]
    assert_refused(run("estimate", "--trained", "t.npz", "--depth", 1), "--depth: means nothing beside --trained")
    assert_refused(run("estimate", "--network", 1), "--network: means nothing without --trained")
    np.savez("own.npz", images=X, labels=-Y)
    assert_refused(run("estimate", "--trained", "t.npz"), "t.npz", "a file has changed")
    measured = ("sharpness", "measure", "t.npz", "--network", 0, "--measure", "fisher-trace", "--json")
    assert_refused(run(*measured), "a file has changed. Give --inputs-file and --labels-file")
    (network,) = parse(run(*measured, "--inputs-file", "X.npy", "--labels-file", "y.csv").out)["networks"]
    expected = measure(FullyConnected(depth=1, width=8), trained.network(0), X, Y, ["fisher-trace"])
    assert network["measurements"][0]["value"] == pytest.approx(expected["fisher_trace"].value, rel=1e-9)
    assert_refused(run(*measured, "--labels-file", "y.csv"), "--labels-file: means nothing without --inputs-file")


@pytest.mark.usefixtures("folder")
def test_labels_of_training_sets(run) -> None:
    """From a file for a data set too; 0 and 1 are told what to do with."""
    bits = ("sharpness", "train", "--inputs-file", "bits.npz", *HOW)
    assert_refused(run(*bits), "--labelling: is missing, and bits.npz has the labels 0, 1", "one-vs-rest:1.")
    document = parse(run(*bits, "--labelling", "one-vs-rest:1", "-n", 12, "--json").out)
    assert (document["n"], document["labelling"]["kind"]) == (12, "one-vs-rest")
    ended = run(
        "sharpness", "train", "-n", 15, "--test", 5, "--labels-file", "y.csv", "--epochs", 1, *HOW, "--out", "t.npz"
    )
    assert ended.code == 0, ended.err
    labels = Trained.load("t.npz").test_labels
    assert labels is not None
    assert np.array_equal(labels, Y[15:])
    assert_refused(
        run("sharpness", "train", *HOW, "--labels-file", "y.csv"), "--labels-file", "(20,) where there are 500"
    )
