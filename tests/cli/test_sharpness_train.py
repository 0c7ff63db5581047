"""``nngp-prior sharpness train``."""

import json
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.data.splits import training_sets
from nngp_prior.schemas.specs.data import Digits, OneVsRest
from nngp_prior.schemas.specs.training import SGD, Training
from nngp_prior.sharpness.training.train import train
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.sharpness.training.trained_functions import training_sets_of
from tests.cli.strict_json import parse

OPTIONS = ("-n", 40, "--attack", 10, "--test", 20, "--width", 10, "--labelling", "one-vs-rest:3", "--seeds", 3,
           "--learning-rate", 0.3, "--batch-size", 8)  # fmt: skip


def test_json_is_what_python_computes_and_the_file_holds(run, tmp_path: Path) -> None:
    out = tmp_path / "trained.npz"
    ended = run("sharpness", "train", *OPTIONS, "--out", out, "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    sets = training_sets(Digits(n=40), OneVsRest(label=3), 10, 20)
    how = Training(optimizer=SGD(learning_rate=0.3), batch_size=8)
    assert sets.test is not None
    X_test, y_test = sets.test
    expected = train(
        FullyConnected(width=10), *sets.train, how, seeds=3, attack=sets.attack, X_test=X_test, y_test=y_test
    )
    assert document["training"] == how.model_dump(mode="json")
    assert document["dataset"] == Digits(n=40).model_dump(mode="json")
    assert (document["n"], document["attack"], document["test"], document["parameters"]) == (40, 10, 20, 771)
    for i, row in enumerate(document["networks"]):
        assert (row["network"], row["status"], row["message"]) == (i, "zero-error", "")
        assert row["epochs"] == row["reached"] == expected.epochs[i]
        assert row["loss"] == pytest.approx(expected.loss[i])
        assert (row["error"], row["test_error"]) == (0, expected.test_error[i])
        assert row["attack_error"] == expected.history["attack_error"][row["epochs"], i]
    found = Trained.load(out)
    assert np.array_equal(found.test_outputs, expected.test_outputs)
    assert found.about["source"] == {key: document[key] for key in ("dataset", "labelling", "attack", "test")}


def test_the_table_and_what_did_not_work(run, tmp_path: Path) -> None:
    how = tmp_path / "adam.json"
    how.write_text(json.dumps({"kind": "adam", "learning_rate": 1e-6}))
    ended = run("sharpness", "train", "-n", 20, "--width", 10, "--optimizer", how, "--epochs", 2, "--batch-size", 20)
    assert ended.code == 0, ended.err
    row = next(line for line in ended.out.splitlines() if "epochs-spent" in line)
    assert row.count("–") == 2
    assert "network 0: error" in ended.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--optimizer", "lbfgs"), "entropy-sgd"),
        (("--optimizer", "a.json"), "a.json"),
        (("--optimizer", "a.json", "--learning-rate", 1), "--learning-rate"),
        (("--learning-rate", 0), "learning_rate"),
        (("-n", 20, "--batch-size", 32), "batch_size"),
        (("-n", 2000), "1,437"),
        (("--loss", "hinge"), "loss"),
        (("--out", "a.npy"), "--out"),
        (("--attack", -1), "attack"),
        (("--labelling", "parity", "--label-classes", 3), "--label-classes"),
        (("--seeds", 0), "seeds"),
        (("--goal", "none", "--extra-epochs", 1), "extra_epochs"),
    ],
)
def test_bad_input(run, arguments: tuple, named: str) -> None:
    ended = run("sharpness", "train", *arguments)
    assert ended.code == 2
    assert named in ended.err
    assert "Traceback" not in ended.err


def test_classes_of_a_data_set_or_a_file(run, tmp_path: Path) -> None:
    out, small = tmp_path / "trained.npz", ("--width", 16, "--learning-rate", 0.3, "--batch-size", 10, "--attack", 5)
    ended = run("sharpness", "train", "-n", 30, "--test", 20, "--labelling", "classes", *small, "--out", out, "--json")
    assert ended.code == 0, ended.err
    document, found = parse(ended.out), Trained.load(out)
    assert document["classes"] == found.classes == 10
    assert document["parameters"] == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    (row,) = document["networks"]
    assert (row["status"], row["error"]) == ("zero-error", 0)
    sets = training_sets_of(found)
    assert np.array_equal(found.outputs(sets.train[0].reshape(30, -1)).argmax(axis=-1)[0], sets.train[1])
    assert row["test_error"] == np.mean(found.outputs(sets.test[0].reshape(20, -1)).argmax(axis=-1)[0] != sets.test[1])
    measured = run("sharpness", "measure", out, "--measure", "fisher-trace", "--json")
    assert measured.code == 0, measured.err
    assert '"fisher_trace"' in measured.out
    refused = run("sharpness", "measure", out, "--measure", "relative-flatness")
    assert refused.code != 0
    assert "'relative-flatness' is of networks with one output" in refused.err
    refused = run("estimate", "--trained", out)
    assert refused.code != 0
    assert "has networks with 10 outputs" in refused.err
    inputs = tmp_path / "inputs.npz"
    rng = np.random.default_rng(0)
    np.savez(inputs, X=rng.standard_normal((20, 4)), labels=np.arange(20) % 3)
    from_file = ("sharpness", "train", "--inputs-file", inputs, *small, "--epochs", 1, "--json")
    assert parse(run(*from_file, "--label-classes", 3).out)["classes"] == 3
    refused = run(*from_file)
    assert refused.code != 0
    assert "0, 1, 2" in refused.err or "0 … 2" in refused.err
