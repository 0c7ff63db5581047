import math
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, clean_error_flipped, clean_error_randomised, kernel, learning_curve, posterior
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.data import Digits, Flip, Parity, Randomise, Threshold
from tests.cli.strict_json import parse

NAMES = ["realizable", "maurer", "langford-seeger", "valle-perez-camargo-louis", "mcallester", "valle-perez-louis"]


def test_json_is_what_python_computes(run) -> None:
    ended = run("bound", "--m", "60,30", "--delta", 0.1, "--gamma", 0.2, "--seed", 3, "--json")
    assert ended.code == 0
    document = parse(ended.out)
    assert document["dataset"] == Digits(n=60).model_dump(mode="json")
    assert (document["units"], document["labelling"], document["corruption"]) == ("nats", "threshold:5", None)
    data = load(Digits(n=60))
    K = kernel(FullyConnected(), data.X)
    expected = learning_curve(K, label(Threshold(at=5), data.classes), [30, 60], delta=0.1, gamma=0.2, seed=3)
    assert [point["m"] for point in document["points"]] == [30, 60]
    for point, (_, estimate, bounds) in zip(document["points"], expected, strict=True):
        assert point["log_p"] == pytest.approx(estimate.value, abs=1e-9)
        assert [found["name"] for found in point["bounds"]] == NAMES
        for found in point["bounds"]:
            assert found["value"] == pytest.approx(bounds[found["name"]].value, abs=1e-9)
            assert found["is_bound"] is True
            assert found["delta"] + found["delta_estimator"] == pytest.approx(0.1)
        assert point["bounds"][-1]["gamma"] == 0.2
        assert "clean_error" not in point


@pytest.mark.parametrize("text", ["randomise:0.2", "flip:6"])
def test_corruption(run, text: str) -> None:
    """It changes the labels, and the error on clean labels follows from the part that is changed of the first m."""
    options = ("--labelling", "parity", "--corrupt", text, "--corrupt-seed", 1, "-n", 60, "--m", "40,60")
    document = parse(run("bound", *options, "--json").out)
    data = load(Digits(n=60))
    corruption = Randomise(probability=0.2, seed=1) if text.startswith("r") else Flip(count=6, seed=1)
    labels, clean = label(Parity(corruption=corruption), data.classes), label(Parity(), data.classes)
    assert document["corruption"] == corruption.model_dump(mode="json")
    assert document["labelling"] == f"parity, {text}"
    expected = learning_curve(kernel(FullyConnected(), data.X), labels, [40, 60])
    for point, (m, estimate, bounds) in zip(document["points"], expected, strict=True):
        assert point["log_p"] == pytest.approx(estimate.value, abs=1e-9)
        value = bounds["realizable"].value
        if text.startswith("r"):
            wanted = clean_error_randomised(value, 0.2)
        else:
            wanted = clean_error_flipped(value, float(np.mean(labels[:m] != clean[:m])))
        assert point["clean_error"] == pytest.approx(wanted, abs=1e-9)
    printed = run("bound", *options).out
    assert "clean labels" in printed
    assert f"{document['points'][1]['clean_error']:.4f}" in printed


def test_table_and_plot(run, tmp_path: Path) -> None:
    path = tmp_path / "bounds.png"
    ended = run("bound", "--m", "20,40", "--plot", path)
    assert ended.code == 0
    document = parse(run("bound", "--m", "20,40", "--json").out)
    for point in document["points"]:
        for found in point["bounds"]:
            assert f"{found['value']:.4f}" in ended.out
    assert "with probability 0.95" in ended.out.replace("\n", " ")
    assert "clean" not in ended.out
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("corrupt", [(), ("--corrupt", "flip:4")])
def test_the_measured_error_is_that_of_the_posterior(run, tmp_path: Path, corrupt: tuple[str, ...]) -> None:
    """At 400 inputs after the largest m, with their true labels; errors as sums over predictive probabilities."""
    plot = ("--plot", tmp_path / "bounds.svg")
    document = parse(run("bound", "--m", "20,40", "--noise-variance", 0.1, *corrupt, *plot, "--json").out)
    data = load(Digits(n=440))
    K, y = kernel(FullyConnected(), data.X), label(Threshold(at=5), data.classes)
    given = label(Threshold(at=5, corruption=Flip(count=4) if corrupt else None), data.classes[:40])
    for point in document["points"]:
        m = point["m"]
        chosen = np.r_[:m, 40:440]
        probability = posterior(K[np.ix_(chosen, chosen)], given[:m], noise_variance=0.1).predictive().value
        wrong = np.where(y[40:] > 0, 1 - probability, probability)
        assert point["measured_error"]["value"] == pytest.approx(wrong.mean(), abs=1e-9)
        assert point["measured_error"]["test"] == 400
        assert point["measured_error"]["stderr"] >= 0.99 * wrong.std() / 20
    figure = (tmp_path / "bounds.svg").read_text()
    assert "measured on 400 test inputs" in figure
    assert "McAllester (1999)" in figure


@pytest.mark.parametrize("options", [("--preprocessing", "standardise"), ("-n", 16, "--data", "boolean", "--bits", 4)])
def test_no_error_is_measured_without_inputs_of_the_same_kind(run, tmp_path: Path, options: tuple) -> None:
    m = () if "-n" in options else ("--m", 20)
    document = parse(run("bound", *m, *options, "--plot", tmp_path / "bounds.png", "--json").out)
    assert "measured_error" not in document["points"][0]


def test_inputs_that_are_left_are_few(run, tmp_path: Path) -> None:
    options = ("--data", "boolean", "--bits", 4, "--m", 10, "--plot", tmp_path / "bounds.png", "--json")
    assert parse(run("bound", *options).out)["points"][0]["measured_error"]["test"] == 6


def test_what_is_no_bound_says_so(run) -> None:
    printed = run("bound", "-n", 30, "--method", "ep").out
    assert "Not bounds" in printed
    assert "holds with probability" not in printed
    document = parse(run("bound", "-n", 30, "--method", "ep", "--json").out)
    assert not any(found["is_bound"] for found in document["points"][0]["bounds"])


def test_another_prior_says_so(run) -> None:
    ended = run("bound", "-n", 30, "--noise-variance", 0.5)
    assert "K + cI, c = 0.5" in ended.err
    document = parse(run("bound", "-n", 30, "--noise-variance", 0.5, "--json").out)
    assert {found["diagonal_shift"] for found in document["points"][0]["bounds"]} == {0.5}


def test_a_kernel_from_a_file(run, tmp_path: Path) -> None:
    np.save(tmp_path / "K.npy", np.full((3, 3), 0.5) + 0.5 * np.eye(3))
    np.save(tmp_path / "y.npy", np.array([1, 1, -1]))
    files = ("--kernel-file", tmp_path / "K.npy", "--labels-file", tmp_path / "y.npy")
    document = parse(run("bound", *files, "--method", "closed-form", "--json").out)
    (point,) = document["points"]
    assert point["log_p"] == pytest.approx(math.log(1 / 12))  # equicorrelated ½: p! q!/(n+1)!
    assert point["bounds"][0]["delta"] == 0.05
    np.save(tmp_path / "y.npy", np.ones((2, 3), dtype=int))
    ended = run("bound", *files)
    assert ended.code == 2
    assert "labels-file: has 2 labellings" in ended.err


def test_boolean_inputs_come_in_random_order(run) -> None:
    document = parse(run("bound", "--data", "boolean", "--bits", 4, "--m", "8", "--json").out)
    assert document["dataset"]["n"] == 8
    assert document["labelling"] == "parity"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--m 10,x", "--m: got '10,x'"),
        ("--m 0", "--m: got '0'"),
        ("-n 20 --m 10,30", "--m: got 30 where there are 20 inputs"),
        ("-n 20 --delta 1", "delta: got 1.0"),
        ("-n 20 --corrupt shuffle:3", "--corrupt: got 'shuffle'"),
        ("-n 20 --corrupt randomise:2", "--corrupt (randomise.probability): got 2"),
        ("-n 20 --plot bounds.jpg", "--plot: got 'bounds.jpg'"),
        ("-n 20 --plot nowhere/bounds.png", "--plot: nowhere/bounds.png cannot be written"),
        ("--kernel-file K.npy -n 20", "--n: means nothing beside --kernel-file"),
        ("--labels-file y.npy --labelling parity", "--labelling: means nothing beside --labels-file"),
        ("-n 20 --method nuts", "method: got 'nuts'"),
    ],
)
def test_misuse(run, arguments: str, message: str) -> None:
    ended = run("bound", *arguments.split())
    assert ended.code == 2
    assert message in ended.err.replace("\n", " ")
    assert "Traceback" not in ended.err


def test_wholly_random_labels_say_nothing_of_clean_ones(run) -> None:
    document = parse(run("bound", "-n", 30, "--corrupt", "randomise:1", "--json").out)
    assert document["points"][0]["clean_error"] == 1.0
