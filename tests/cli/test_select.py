from pathlib import Path

import pytest

from nngp_prior import FullyConnected, select_architecture
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused

OPTIONS = ("select", "--data", "digits", "-n", 60, "-m", 40, "--labelling", "parity", "--activation", "erf")


def test_json_is_what_python_computes(run, tmp_path: Path) -> None:
    ended = run(*OPTIONS, "--depths", "1", "--seed", 3, "--json", "--plot", tmp_path / "selection.svg")
    assert ended.code == 0
    document = parse(ended.out)
    data = load(Digits(n=60))
    y = label(Parity(), data.classes)
    a = FullyConnected(depth=1, activation="erf")
    found = select_architecture(a, data.X[:40], y[:40], X_test=data.X[40:], y_test=y[40:], seed=3)
    assert [row["log_p"] for row in document["results"]] == pytest.approx([each.log_p.value for each in found])
    assert [row["optimised"] for row in document["results"]] == [each.optimised for each in found]
    errors = [each.test_error.value for each in found if each.test_error]
    assert [row["test_error"] for row in document["results"]] == errors
    assert document["choices"] == found.choices
    assert (tmp_path / "selection.svg").read_text().startswith("<?xml")


def test_table(run) -> None:
    ended = run(*OPTIONS, "--depth", 1)
    assert ended.code == 0
    assert "optimised" in ended.out
    assert "one of 15,251 choices" in " ".join(ended.out.split())


def test_bad_options(run) -> None:
    assert_refused(run(*OPTIONS, "--depths", "1,x"), "--depths", "'1,x'")
    assert_refused(run(*OPTIONS, "--depths", "1", "--depth", 2), "--depth")
    assert_refused(run(*OPTIONS[:-2], "--activations", "tanh"), "activation", "tanh")
    assert_refused(run(*OPTIONS[:3], "-n", 60, "--train", 61), "--train", "61")
