"""Data sets, classes and labellings as the command line names them."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import (
    FullyConnected,
    kernel,
    learning_curve,
    log_prior,
    log_probability,
    posterior,
    sample_functions,
)
from nngp_prior.data import label, load
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import (
    Boolean,
    Cifar10,
    Dataset,
    Digits,
    Labelling,
    OneVsRest,
    Parity,
    Threshold,
    TwoClasses,
)
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused
from tests.data.idx_files import write_archive

QUICK = ("--method", "ep", "--json")


def expected(dataset: Dataset, labelling: Labelling, **architecture: float) -> Estimate:
    data = load(dataset)
    labels = label(labelling, data.classes, data.known_classes)
    return log_prior(FullyConnected(**architecture), data.images, labels, method="ep")


@pytest.fixture
def run_cifar10(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line, with a small CIFAR-10 of six images a class."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    write_archive(tmp_path / "cifar10" / "train.npz", images=images, labels=np.arange(60) % 10)
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    return run


@pytest.mark.parametrize("pair", ["cat,car", "cat,automobile", "3,1", "cat,1"])
def test_cat_against_car(run_cifar10, pair: str) -> None:
    ended = run_cifar10("estimate", "--data", "cifar10", "--labelling", f"two-classes:{pair}", *QUICK)
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert document["dataset"] == Cifar10(classes=(3, 1)).model_dump(mode="json")
    assert document["n"] == 12
    (result,) = document["results"]
    assert result["name"] == "two-classes:3,1"
    truth = expected(Cifar10(classes=(3, 1)), TwoClasses(positive=3, negative=1))
    assert result["log_p"] == pytest.approx(truth.value, abs=1e-9)


def test_classes_by_name_and_labellings_of_them(run_cifar10) -> None:
    labellings = "--labelling one-vs-rest:dog --labelling two-classes:cat,dog --labelling constant"
    ended = run_cifar10("estimate", "--data", "cifar10", "--classes", "dog,cat", "-n", 8, *labellings.split(), *QUICK)
    document = parse(ended.out)
    assert document["dataset"]["classes"] == [3, 5]
    one, two, _ = document["results"]
    truth = expected(Cifar10(classes=(3, 5), n=8), OneVsRest(label=5))
    assert one["log_p"] == pytest.approx(truth.value, abs=1e-9)
    assert one["name"] == "one-vs-rest:5"
    assert two["name"] == "two-classes:3,5"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--labelling two-classes:cat,kitten", ["class", "'kitten'", "airplane", "truck"]),
        ("--classes cat,kitten", ["class", "'kitten'", "automobile"]),
        ("--classes 3,12", ["classes", "12", "less than or equal to 9"]),
        ("--classes cat,cat", ["classes", "once"]),
        ("--labelling two-classes:cat", ["negative", "required"]),
        ("--labelling two-classes:3,1 --labelling two-classes:3,5", ["two-classes", "the classes 1, 3, 5"]),
        ("--labelling two-classes:3,1 --classes 3,1,5", ["two-classes", "the classes 1, 3, 5", "classes=(3, 1)"]),
        ("--labelling two-classes:3,1 -n 13", ["n", "13", "12", "classes 1, 3"]),
        ("--classes 3,1 --labelling threshold:5", ["threshold", "at=5", "1, 3", "alike"]),
    ],
)
def test_classes_that_there_are_not(run_cifar10, arguments: str, parts: list[str]) -> None:
    assert_refused(run_cifar10("estimate", "--data", "cifar10", *arguments.split()), *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--labelling threshold:12", ["threshold at=12", "0 … 9"]),
        ("--labelling one-vs-rest:11", ["one-vs-rest label=11", "0 … 9"]),
        ("--data boolean --split test", ["boolean.split", "no such field"]),
        ("--data boolean --bits 30", ["bits", "30", "20"]),
        ("--data boolean --encoding typo", ["encoding", "'typo'", "signs"]),
        ("--data boolean --labelling threshold:9", ["threshold at=9", "0 … 7"]),
        ("--data boolean --leave-out-zero", ["leave_out_zero", "encoding='bits'"]),
        ("--bits 5", ["digits.bits", "no such field"]),
        ("--data inline", ["--data: got 'inline'", "'cifar10', 'boolean'."]),
        ("--data digits --labelling nonsense", ["--labelling: got 'nonsense'", "'random', 'constant'."]),
        ("--inputs-file x.npy --bits 5", ["--bits", "means nothing beside --inputs-file"]),
    ],
)
def test_what_data_do_not_have(run, arguments: str, parts: list[str]) -> None:
    assert_refused(run("estimate", *arguments.split()), *parts)


def test_a_draw_that_lacks_a_class_is_no_error(run) -> None:
    missing = next(c for c in range(10) if c not in load(Digits(n=6)).classes)
    ended = run("estimate", "-n", 6, "--labelling", f"one-vs-rest:{missing}", *QUICK)
    assert ended.code == 0


def test_boolean_functions_with_their_order_stated(run) -> None:
    arguments = "--data boolean --bits 4 --labelling parity --labelling threshold:3"
    ended = run("estimate", *arguments.split(), *QUICK)
    document = parse(ended.out)
    assert document["order"] == "0 … 15, most significant bit first"
    assert "0 … 15, most significant bit first" in run("estimate", *arguments.split(), "--method", "ep").err
    for result, labelling in zip(document["results"], (Parity(), Threshold(at=3)), strict=True):
        assert result["log_p"] == pytest.approx(expected(Boolean(bits=4), labelling).value, abs=1e-9)


def test_the_zero_vector_is_left_out_where_it_has_no_label(run) -> None:
    bits = ("--data", "boolean", "--encoding", "bits")
    document = parse(run("estimate", *bits, "--bias-std", 0, *QUICK).out)
    assert document["n"] == 127
    assert document["order"].startswith("1 … 127")
    truth = expected(Boolean(encoding="bits", leave_out_zero=True), Parity(), bias_std=0.0)
    assert document["results"][0]["log_p"] == pytest.approx(truth.value, abs=1e-9)
    assert parse(run("estimate", *bits, *QUICK).out)["n"] == 128
    assert parse(run("estimate", *bits, "--leave-out-zero", *QUICK).out)["n"] == 127
    assert_refused(run("estimate", *bits, "--bias-std", 0, "--keep-zero"), "K[0, 0]", "input 0")


def test_inputs_and_classes_from_one_archive(run, tmp_path: Path) -> None:
    X, classes = np.random.default_rng(0).standard_normal((12, 3)), np.arange(12) % 4
    path = tmp_path / "own.npz"
    np.savez(path, images=X, labels=classes)
    options = "--labelling threshold:2 --corrupt flip:1 --preprocessing unit-norm"
    (result,) = parse(run("estimate", "--inputs-file", path, *options.split(), *QUICK).out)["results"]
    rows = X * np.sqrt(3) / np.linalg.norm(X, axis=1, keepdims=True)
    labels = label(Threshold(at=2, corruption={"kind": "flip", "count": 1}), classes)
    truth = log_prior(FullyConnected(), rows, labels, method="ep")
    assert result["name"] == "threshold:2, flip:1"
    assert result["log_p"] == pytest.approx(truth.value, abs=1e-9)
    without = run("estimate", "--inputs-file", path)
    assert_refused(
        without, "--labelling: is missing", "labels 0 … 3", "one-vs-rest:0, threshold:3 or parity, or take classes"
    )
    (found,) = parse(run("estimate", "--inputs-file", path, "--label-classes", 4, *QUICK).out)["results"]
    (same,) = parse(run("estimate", "--inputs-file", path, "--labelling", "classes", *QUICK).out)["results"]
    assert (
        found["log_p"]
        == same["log_p"]
        == pytest.approx(log_prior(FullyConnected(), X, classes, classes=4, method="ep").value)
    )
    assert_refused(run("estimate", "--inputs-file", path, "--labelling", "threshold:4"), "at=4", "0 … 3")
    assert_refused(run("estimate", "--inputs-file", path, "--preprocessing", "typo"), "preprocessing", "'typo'", "none")


def test_labels_from_archives(run, tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).standard_normal((6, 2, 3)), np.array([1, -1, 1, 1, -1, 1])
    np.savez(tmp_path / "both.npz", images=X, labels=y)
    np.savez(tmp_path / "other.npz", labels=-y)
    np.savez(tmp_path / "none.npz", images=X)
    inputs = ("estimate", "--inputs-file", tmp_path / "both.npz")
    (own,) = parse(run(*inputs, *QUICK).out)["results"]
    (other,) = parse(run(*inputs, "--labels-file", tmp_path / "other.npz", *QUICK).out)["results"]
    assert (own["name"], other["name"]) == ("both.npz", "other.npz")
    for result, labels in ((own, y), (other, -y)):
        truth = log_prior(FullyConnected(), X, labels, method="ep")
        assert result["log_p"] == pytest.approx(truth.value, abs=1e-9)
    assert_refused(run(*inputs, "--labels-file", tmp_path / "none.npz"), "none.npz", "the labels (it has images)")
    assert_refused(
        run("estimate", "--inputs-file", tmp_path / "none.npz"), "--labels-file", "no labels beside its inputs"
    )
    np.savez(tmp_path / "bits.npz", images=X, labels=(y + 1) // 2)
    bits = ("estimate", "--inputs-file", tmp_path / "bits.npz")
    assert_refused(run(*bits), "bits.npz has the labels 0, 1", "--labelling one-vs-rest:1, or take classes")
    (result,) = parse(run(*bits, "--labelling", "one-vs-rest:1", *QUICK).out)["results"]
    assert result["log_p"] == own["log_p"]


WAYS = {
    "npz": ("--inputs-file", "both.npz"),
    "npz with floats": ("--inputs-file", "floats.npz"),
    "npy": ("--inputs-file", "X.npy", "--labels-file", "y.npy"),
    "csv": ("--inputs-file", "both.csv"),
    "csv apart": ("--inputs-file", "X.csv", "--labels-file", "y.csv"),
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """The same inputs and labels in files of all formats, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    X = np.round(np.random.default_rng(0).standard_normal((10, 3)), 3)
    y = np.where(X[:, 0] > 0, 1, -1)
    np.savez("both.npz", images=X, labels=y)
    np.savez("floats.npz", X=X, y=y[:, None] / 1)
    np.save("X.npy", X)
    np.save("y.npy", y)
    np.savetxt("both.csv", np.column_stack([X, y]), delimiter=",", header="a,b,c,label", comments="")
    np.savetxt("X.csv", X, delimiter=",")
    np.savetxt("y.csv", y, fmt="%d")
    return X, y


@pytest.mark.parametrize("way", WAYS)
def test_inputs_and_labels_mean_the_same_to_all_commands(run, files: tuple[np.ndarray, np.ndarray], way: str) -> None:
    X, y = files
    K = kernel(FullyConnected(), X)
    (row,) = parse(run("estimate", *WAYS[way], *QUICK).out)["results"]
    assert row["log_p"] == pytest.approx(log_probability(K, y, method="ep").value, abs=1e-9)
    points = parse(run("bound", *WAYS[way], "--m", "5,10", "--method", "ep", "--json").out)["points"]
    expected = learning_curve(K, y, [5, 10], method="ep")
    assert [point["log_p"] for point in points] == pytest.approx([point.estimate.value for point in expected], abs=1e-9)
    (row,) = parse(run("posterior", *WAYS[way], "--train", 6, "--particles", 16, "--json").out)["results"]
    assert row["log_p"] == pytest.approx(posterior(K, y[:6], particles=16).log_p.value, abs=1e-9)
    inputs = WAYS[way][:2]
    document = parse(run("kernel", "compute", *inputs, "--out", "K.npy", "--json").out)
    assert document["inputs"] == inputs[1]
    assert np.load("K.npy") == pytest.approx(K, abs=1e-12)
    found = parse(run("sample", "-N", 50, *inputs, "--width", 4, "--json").out)
    counts = sample_functions(FullyConnected(width=4), X, 50)
    assert [each["draws"] for each in found["top"]] == [each.draws for each in counts.top(10)]


def test_bounds_of_classes(run) -> None:
    """Labels are classes: of the data set, or in a file with their number; nothing sends in a circle."""
    points = parse(run("bound", "-n", 20, "--labelling", "classes", "--method", "ep", "--json").out)["points"]
    data = load(Digits(n=20))
    (point,) = learning_curve(kernel(FullyConnected(), data.X), data.classes, [20], method="ep", classes=10)
    assert points[0]["log_p"] == pytest.approx(point.estimate.value, abs=1e-9)


def test_the_identity_of_a_kernel_follows_the_files(run_cifar10, tmp_path: Path) -> None:
    arguments = ("estimate", "--data", "cifar10", "-n", 5, "--labelling", "constant", *QUICK)
    first, again = (parse(run_cifar10(*arguments).out)["kernel"] for _ in range(2))
    images = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    write_archive(tmp_path / "cifar10" / "train.npz", images=images, labels=np.arange(60) % 10)
    assert first == again != parse(run_cifar10(*arguments).out)["kernel"]
