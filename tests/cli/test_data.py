"""Data sets, classes and labellings as the command line names them."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, log_prior
from nngp_prior.data import label, load
from nngp_prior.schemas.data import (
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
from nngp_prior.schemas.estimate import Estimate
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
        ("--data inline", ["inline.x", "required"]),
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
    assert_refused(run("estimate", "--inputs-file", path), "labels-file", "missing")
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
    assert_refused(run(*inputs, "--labels-file", tmp_path / "none.npz"), "none.npz", "no array labels")


def test_the_identity_of_a_kernel_follows_the_files(run_cifar10, tmp_path: Path) -> None:
    arguments = ("estimate", "--data", "cifar10", "-n", 5, "--labelling", "constant", *QUICK)
    first, again = (parse(run_cifar10(*arguments).out)["kernel"] for _ in range(2))
    images = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    write_archive(tmp_path / "cifar10" / "train.npz", images=images, labels=np.arange(60) % 10)
    assert first == again != parse(run_cifar10(*arguments).out)["kernel"]
