"""What the user can mend: status 2 and one line that says what and where."""

import gzip
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nngp_prior.cli.commands import demo
from tests.cases import equicorrelated
from tests.cli.conftest import Ended
from tests.client.service import TOKEN, fake_service, refuse
from tests.data.idx_files import write_image_data

GOOD = equicorrelated(4, 0.5)


def assert_refused(ended: Ended, *parts: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    assert [part for part in parts if part not in ended.err] == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--data cifar", ["--data: got ", "'cifar'", "digits", "fashion-mnist"]),
        ("--labelling typo", ["--labelling: got ", "'typo'", "threshold", "one-vs-rest"]),
        ("--labelling typo:5", ["--labelling: got ", "'typo'", "threshold", "one-vs-rest"]),
        ("--labelling threshold", ["--labelling (threshold.at)", "required"]),
        ("--labelling threshold:five", ["threshold.at", "'five'", "integer"]),
        ("--labelling threshold:--5", ["threshold.at", "'--5'", "integer"]),
        ("--labelling parity:3", ["parity.value", "(got 3)", "Leave it out"]),
        ("--labelling constant:2", ["constant.value", "2"]),
        ("--corrupt typo:1", ["--corrupt: got ", "'typo'", "randomise", "flip"]),
        ("--corrupt randomise:2", ["--corrupt (randomise.probability)", "2"]),
        ("--corrupt flip:61 -n 60", ["corruption.count", "61", "60"]),
        ("--method mcmc", ["--method: ", "'mcmc'", "smc"]),
        ("--depth -1", ["--depth: ", "-1", "0"]),
        ("--activation tanh", ["activation", "'tanh'", "relu", "erf"]),
        ("--weight-std 0", ["--weight-std: ", "greater than 0"]),
        ("--bias-std nan", ["--bias-std: ", "nan"]),
        ("--preprocessing typo", ["preprocessing", "'typo'", "unit-interval"]),
        ("--split typo", ["--split", "'typo'", "train"]),
        ("-n 0", ["--n", "0"]),
        ("-n 1438", ["n", "1,438", "1,437"]),
        ("--particles 3", ["--particles", "3"]),
        ("--method ep --particles 64", ["particles", "EP"]),
        ("--noise-variance -1", ["--noise-variance", "-1"]),
        ("--delta 2", ["delta", "2"]),
        ("--data mnist", ["mnist", "NNGP_DATA"]),
    ],
)
def test_an_option(run, arguments: str, parts: list[str]) -> None:
    assert_refused(run("estimate", *arguments.split()), *parts)


@pytest.mark.parametrize(
    "arguments",
    [
        "estimate --depth 1 --depth 2",
        "estimate -n 20 --n 30",
        "estimate --json --json",
        "estimate --leave-out-zero --keep-zero",
        "kernel compute --get nngp --get ntk",
        "kernel evict --bytes 0 --bytes 1",
        "posterior --train 5 -m 6",
        "bound --m 5 --m 6",
        "sample --seed 1 --seed 2",
        "sharpness train --seeds 1 --seeds 2",
        "sharpness measure none.npz --loss mse --loss mse",
        "jobs list --json --json",
        "serve --port 1 --port 2",
        "demo --n 1 --n 2",
        "doctor --json --json",
    ],
)
def test_an_option_that_is_no_list_is_given_once(run, arguments: str) -> None:
    repeated = max((part for part in arguments.split() if part.startswith("--")), key=arguments.count)
    assert_refused(
        run(*arguments.split()), "was given 2 times. Give it once.", repeated if "zero" not in repeated else ""
    )


def broken(i: int, j: int, value: float) -> np.ndarray:
    K = GOOD.copy()
    K[i, j] = value
    return K


@pytest.mark.parametrize(
    ("K", "y", "parts"),
    [
        (broken(1, 2, np.nan), [1, 1, 1, 1], ["K[1, 2] is nan"]),
        (broken(1, 2, np.inf), [1, 1, 1, 1], ["K[1, 2] is inf"]),
        (broken(1, 2, 0.6), [1, 1, 1, 1], ["not symmetric", "K[1, 2]", "K[2, 1]"]),
        (broken(2, 2, 0.0), [1, 1, 1, 1], ["K[2, 2]", "input 2"]),
        (equicorrelated(4, -0.5), [1, 1, 1, 1], ["--kernel-file (K): is not positive semi-definite"]),
        (equicorrelated(4, 1.5), [1, 1, 1, 1], ["--kernel-file (K): is not positive semi-definite"]),
        (GOOD[:3], [1, 1, 1, 1], ["--kernel-file (K): has shape (3, 4)"]),
        (GOOD[0], [1, 1, 1, 1], ["--kernel-file (K): has shape (4,)"]),
        (GOOD + 0j, [1, 1, 1, 1], ["K", "real"]),
        (GOOD, [0, 1, 1, 0], ["labels", "0 and 1", "2 * labels - 1"]),
        (GOOD, [1, 1, 2, 1], ["labels[2] is 2"]),
        (GOOD, [1, 1, 1], ["labels", "(3,)", "4 inputs"]),
        (GOOD, [np.nan, 1, 1, 1], ["labels[0] is nan"]),
        (GOOD, ["a", "b", "c", "d"], ["labels"]),
    ],
    ids=["nan", "infinite", "asymmetric", "no variance", "indefinite", "correlation above 1", "rectangular", "one axis",
         "complex", "0 and 1", "2", "too few", "nan label", "text"],
)  # fmt: skip
def test_a_kernel_or_labels(run, tmp_path: Path, K: np.ndarray, y: list, parts: list[str]) -> None:
    np.save(tmp_path / "K.npy", K)
    np.save(tmp_path / "y.npy", np.array(y))
    assert_refused(run("estimate", "--kernel-file", tmp_path / "K.npy", "--labels-file", tmp_path / "y.npy"), *parts)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"hello\nworld\n", b"PK\x03\x04 no archive", "npz", "cut off", "objects"],
    ids=["missing", "empty", "text", "zip", "npz", "cut off", "objects"],
)
@pytest.mark.parametrize("option", ["--kernel-file", "--inputs-file", "--labels-file"])
def test_a_file(run, tmp_path: Path, option: str, content: bytes | str | None) -> None:
    np.save(tmp_path / "good.npy", GOOD)
    path = tmp_path / "file.npy"
    match content:
        case bytes():
            path.write_bytes(content)
        case "npz":
            with path.open("wb") as file:
                np.savez(file, K=GOOD)
        case "cut off":
            path.write_bytes((tmp_path / "good.npy").read_bytes()[:-9])
        case "objects":
            np.save(path, np.array([{}]))
    files = {"--kernel-file": tmp_path / "good.npy", "--labels-file": tmp_path / "good.npy"}
    if option == "--inputs-file":
        del files["--kernel-file"]
    files[option] = path
    assert_refused(run("estimate", *(part for pair in files.items() for part in pair)), str(path))


def test_labels_are_needed_where_inputs_come_from_a_file(run, tmp_path: Path) -> None:
    np.save(tmp_path / "K.npy", GOOD)
    for option in ("--kernel-file", "--inputs-file"):
        assert_refused(run("estimate", option, tmp_path / "K.npy"), "labels-file")


def test_a_corrupt_image_file(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_data(tmp_path, "mnist", np.ones((5, 28, 28)), np.arange(5))
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"")[:-4] + b"????")
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    assert_refused(run("estimate", "--data", "mnist", "-n", 5), str(path), "Download it again")


def test_the_demo_ends_where_the_service_has_no_data(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_service() as service:
        monkeypatch.setattr(demo, "passing_service", lambda: nullcontext((service.url, TOKEN)))
        service.faults["POST"] = [refuse(422, "data-unavailable", "train-images-idx3-ubyte.gz: no such file.")]
        ended = run("demo", "--data", "mnist", "-n", 5, "--folder", tmp_path / "demo")
    assert_refused(ended, "train-images-idx3-ubyte.gz: no such file.")
    assert not (tmp_path / "demo").exists()


def test_the_demo_refuses_what_the_estimate_refuses(run, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert_refused(run("demo", "--data", "cifar", "--folder", folder), "--data: got ", "'cifar'", "digits")
    assert_refused(run("demo", "-n", 0, "--folder", folder), "n", "0")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kernel-file", "K.npy", "--labels-file", "y.npy", "-n", "5"), "--n: means nothing beside --kernel-file"),
        (("--kernel-file", "K.npy", "--inputs-file", "X.npy"), "--inputs-file: means nothing beside --kernel-file"),
        (("--inputs-file", "X.npy", "--data", "mnist"), "--data: means nothing beside --inputs-file"),
        (("--labels-file", "y.npy", "--labelling", "parity"), "--labelling: means nothing beside --labels-file"),
    ],
)
def test_options_that_would_be_ignored(run, arguments: tuple[str, ...], message: str) -> None:
    ended = run("estimate", *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(run, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("in the way")
    ended = run("demo", "-n", "20", "--folder", taken)
    assert ended.code == 2
    assert "--folder" in ended.err
    assert taken.read_text() == "in the way"


def test_too_many_inputs_are_refused_before_the_kernel_is_made(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**20))
    monkeypatch.setattr("nngp_prior.kernels.KernelCache.of", lambda *_, **__: pytest.fail("the kernel was made"))
    ended = run("estimate", "-n", "1000")
    assert ended.code == 2
    assert "Use at most" in ended.err
