import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel, log_prior, log_probability
from nngp_prior.cli.common.output import nats
from nngp_prior.data import label, load
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import Constant, Digits, Flip, Parity, Threshold
from tests.cases import equicorrelated
from tests.cli.strict_json import parse


def python_estimate(labelling, n: int = 60, **options) -> Estimate:
    data = load(Digits(n=n))
    return log_prior(FullyConnected(), data.X, label(labelling, data.classes), **options)


def saved(folder: Path, **arrays: np.ndarray) -> dict[str, Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def test_json_is_what_python_computes(run) -> None:
    ended = run("estimate", "-n", 60, "--labelling", "threshold:5", "--labelling", "constant", "--seed", 3, "--json")
    assert ended.code == 0
    document = parse(ended.out)
    assert (document["units"], document["n"], document["seed"]) == ("nats", 60, 3)
    assert set(document) >= {"kernel", "architecture", "dataset", "estimator", "versions", "results"}
    assert [result["name"] for result in document["results"]] == ["threshold:5", "constant:1"]
    for i, (result, labelling) in enumerate(zip(document["results"], [Threshold(at=5), Constant()], strict=True)):
        expected = python_estimate(labelling, seed=3)
        assert result["labelling"] == i
        assert result["log_p"] == pytest.approx(expected.value, abs=1e-9)
        assert result["stderr"] == pytest.approx(expected.stderr, rel=1e-6)
        assert result["interval"] == pytest.approx(expected.interval(), abs=1e-9)
        assert result["lower_bound"]["delta"] == 0.01
        assert result["lower_bound"]["log_p"] == pytest.approx(expected.lower_bound(0.01), abs=1e-9)
        assert (result["status"], result["method"]) == ("ok", "smc")
        assert result["diagnostics"]["replicates"] == 32


def test_options_reach_what_they_are_named_after(run) -> None:
    options = "--depth 1 --activation erf --weight-std 1.2 --bias-std 0.3 --noise-variance 0.1 --particles 64"
    draw = "-n 40 --split test --data-seed 2 --preprocessing standardise --labelling parity --corrupt flip:4"
    rest = "--replicates 8 --delta 0.2 --seed 5 --corrupt-seed 1 --json"
    document = parse(run("estimate", *options.split(), *draw.split(), *rest.split()).out)
    data = load(Digits(n=40, split="test", seed=2, preprocessing="standardise"))
    labels = label(Parity(corruption=Flip(count=4, seed=1)), data.classes)
    architecture = FullyConnected(depth=1, activation="erf", weight_std=1.2, bias_std=0.3)
    expected = log_prior(architecture, data.X, labels, seed=5, particles=64, replicates=8, noise_variance=0.1)
    (result,) = document["results"]
    assert result["log_p"] == pytest.approx(expected.value, abs=1e-9)
    assert result["lower_bound"]["log_p"] == pytest.approx(expected.lower_bound(0.2), abs=1e-9)
    assert result["name"] == "parity, flip:4"
    assert "K + cI" in result["message"]


@pytest.mark.parametrize("method", ["ep", "sampling"])
def test_other_methods(run, method: str) -> None:
    arguments = ["--draws", 1000] if method == "sampling" else []
    ended = run("estimate", "-n", 20, "--labelling", "constant", "--method", method, *arguments, "--json")
    (result,) = parse(ended.out)["results"]
    options = {"draws": 1000} if arguments else {}
    assert result["log_p"] == pytest.approx(python_estimate(Constant(), 20, method=method, **options).value, abs=1e-9)
    assert (result["stderr"] is None) == (result["lower_bound"] is None) == (method == "ep")


def test_the_table_shows_every_number_in_full_also_where_the_screen_is_narrow(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = run("estimate", "-n", 60, "--labelling", "threshold:5", "--labelling", "one-vs-rest:3")
    assert ended.code == 0
    assert "Traceback" not in ended.out + ended.err
    assert "threshold:5" in ended.out
    assert "one-vs-rest:3" in ended.out
    expected = python_estimate(Threshold(at=5))
    low, high = expected.interval() or (0, 0)
    assert nats(expected.value, expected.stderr) in ended.out
    digits = [nats(end, expected.stderr, show_error=False) for end in (low, high)]
    assert " … ".join(digits) in ended.out
    assert nats(expected.lower_bound(0.01)) in ended.out


def test_a_kernel_from_a_file(run, tmp_path: Path) -> None:
    """Equicorrelation 1/2: P = 1/(n + 1)."""
    files = saved(tmp_path, K=equicorrelated(10, 0.5), y=np.ones(10, dtype=int))
    ended = run(
        "estimate", "--kernel-file", files["K"], "--labels-file", files["y"], "--method", "closed-form", "--json"
    )
    (result,) = parse(ended.out)["results"]
    assert result["log_p"] == pytest.approx(-np.log(11), abs=1e-9)
    assert result["interval"] == [result["log_p"]] * 2


def test_inputs_and_many_labellings_from_files(run, tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((12, 3))
    Y = np.sign(X.T).astype(int)
    files = saved(tmp_path, X=X, Y=Y)
    ended = run("estimate", "--inputs-file", files["X"], "--labels-file", files["Y"], "--depth", 0, "--json")
    K = kernel(FullyConnected(depth=0), X)
    results = parse(ended.out)["results"]
    assert [result["name"] for result in results] == ["Y.npy[0]", "Y.npy[1]", "Y.npy[2]"]
    for result, labels in zip(results, Y, strict=True):
        assert result["log_p"] == pytest.approx(log_probability(K, labels).value, abs=1e-9)


def test_contradictory_labels_are_impossible_and_no_error(run, tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((6, 3))
    files = saved(tmp_path, X=np.vstack([X, X[2]]), y=np.array([1, 1, 1, -1, 1, -1, -1]))
    arguments = ["estimate", "--inputs-file", files["X"], "--labels-file", files["y"]]
    ended = run(*arguments, "--json")
    assert ended.code == 0
    (result,) = parse(ended.out)["results"]
    assert (result["status"], result["log_p"], result["stderr"]) == ("impossible", "-Infinity", 0.0)
    assert "inputs 2 and 6" in result["message"]
    table = run(*arguments)
    assert table.code == 0
    assert "-∞" in table.out
    assert "inputs 2 and 6" in table.err


def test_json_has_no_numbers_that_json_does_not_have(run) -> None:
    """No draw has these labels: log P, its error and the bound are infinite."""
    ended = run("estimate", "-n", 100, "--labelling", "random", "--method", "sampling", "--draws", 10, "--json")
    (result,) = parse(ended.out)["results"]
    assert (result["log_p"], result["stderr"], result["lower_bound"]["log_p"]) == ("-Infinity", "Infinity", "-Infinity")
    assert result["status"] == "no-hits"


def test_as_a_program(tmp_path: Path) -> None:
    """The installed command: JSON on standard output and nothing else there; errors on standard error, code 2."""
    program = [str(Path(__import__("sys").executable).with_name("nngp-prior")), "estimate"]
    arguments = ["-n", "20", "--labelling", "constant", "--method", "ep", "--json"]
    good = subprocess.run(program + arguments, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert parse(good.stdout)["n"] == 20
    bad = subprocess.run([*program, "--depth", "-1"], capture_output=True, text=True, timeout=100, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: --depth: got -1")
    assert bad.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    json.loads(good.stdout)


def test_a_labelling_given_twice_is_estimated_twice(run) -> None:
    ended = run("estimate", "-n", "20", "--labelling", "parity", "--labelling", "parity", "--method", "ep", "--json")
    first, second = parse(ended.out)["results"]
    assert first["log_p"] == second["log_p"]


def test_classes_as_labels(run, tmp_path: Path) -> None:
    """Their number comes from the data, also where there are not all ten."""
    ended = run("estimate", "-n", 20, "--classes", "1,4,7", "--labelling", "classes", "--method", "ep", "--json")
    document = parse(ended.out)
    assert document["estimator"]["classes"] == 3
    data = load(Digits(n=20, classes=(1, 4, 7)))
    labels = np.searchsorted([1, 4, 7], data.classes)
    expected = log_prior(FullyConnected(), data.X, labels, method="ep", classes=3)
    assert document["results"][0]["log_p"] == pytest.approx(expected.value, abs=1e-9)
    files = saved(tmp_path, K=kernel(FullyConnected(), data.X), labels=labels)
    of_files = ("estimate", "--kernel-file", files["K"], "--labels-file", files["labels"], "--method", "ep", "--json")
    document = parse(run(*of_files, "--label-classes", 3).out)
    assert document["results"][0]["log_p"] == pytest.approx(expected.value, abs=1e-9)
    ended = run(*of_files)
    assert ended.code == 2
    assert "pass --label-classes C, at least 3" in ended.err
    assert "--label-classes: got 1." in run(*of_files, "--label-classes", 1).err
    np.save(files["labels"], np.where(labels == 0, -1, 1))
    assert (
        "With --label-classes 3, labels are integers 0 … 2; -1 and +1 need no"
        in run(*of_files, "--label-classes", 3).err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--labelling classes --labelling constant", "Estimate them apart"),
        ("--labelling classes --method laplace --noise-variance 1", "laplace takes labels -1 and +1"),
        ("--labelling classes --label-classes 10", "means nothing beside --labelling"),
    ],
)
def test_what_does_not_go_with_classes(run, options: str, message: str) -> None:
    ended = run("estimate", "-n", 20, *options.split())
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
