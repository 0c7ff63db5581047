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
        (("--labelling", "classes"), "labelling"),
        (("--seeds", 0), "seeds"),
        (("--goal", "none", "--extra-epochs", 1), "extra_epochs"),
    ],
)
def test_bad_input(run, arguments: tuple, named: str) -> None:
    ended = run("sharpness", "train", *arguments)
    assert ended.code == 2
    assert named in ended.err
    assert "Traceback" not in ended.err
