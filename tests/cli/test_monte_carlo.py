from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, MonteCarlo, log_prior, monte_carlo_kernel
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.architecture import Convolutional, ConvolutionLayer
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused

DATA = load(Digits(n=20))


def test_files_are_what_python_computes(run, tmp_path: Path) -> None:
    out, errors = tmp_path / "K.npy", tmp_path / "K-stderr.npy"
    call = ["kernel", "compute", "-n", 20, "--depth", 1, "--monte-carlo", 4, "--width", 8, "--out", out]
    document = parse(run(*call, "--json").out)
    architecture = FullyConnected(depth=1, width=8)
    expected = monte_carlo_kernel(architecture, DATA.X, MonteCarlo(networks=4))
    assert np.array_equal(np.load(out), expected.K)
    assert np.array_equal(np.load(errors), expected.stderr)
    assert document["architecture"] == architecture.model_dump(mode="json")
    assert document["monte_carlo"] == MonteCarlo(networks=4).model_dump(mode="json")
    assert (document["file"], document["stderr_file"]) == (str(out), str(errors))
    assert (document["n"], document["rank"], document["rank_limit"]) == (20, expected.rank, 20)
    assert_refused(run(*call), "--out", "exists")
    errors.unlink()
    out.rename(tmp_path / "other.npy")
    call[call.index("--monte-carlo") + 1] = 2
    shown = run(*call)
    assert "2 networks" in shown.out
    fewer = monte_carlo_kernel(architecture, DATA.X, MonteCarlo(networks=2))
    assert f"Rank {fewer.rank} of 20" in shown.err


def test_the_width_of_a_network_on_images_is_its_channels(run, tmp_path: Path) -> None:
    call = ["kernel", "compute", "-n", 3, "--architecture", "convolutional", "--depth", 1, "--monte-carlo", 2]
    document = parse(run(*call, "--width", 5, "--out", tmp_path / "K.npy", "--json").out)
    architecture = Convolutional(layers=(ConvolutionLayer(),), channels=5)
    assert document["architecture"] == architecture.model_dump(mode="json")
    assert document["input_shape"] == [8, 8, 1]


@pytest.mark.parametrize("from_file", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_estimate_has_the_kernels_error_in_its_own(run, tmp_path: Path, from_file: bool) -> None:
    labels = label(Parity(), DATA.classes)
    np.save(tmp_path / "X.npy", DATA.X)
    np.save(tmp_path / "y.npy", labels)
    files = ["--inputs-file", tmp_path / "X.npy", "--labels-file", tmp_path / "y.npy"]
    data = files if from_file else ["-n", 20, "--labelling", "parity"]
    options = ["--depth", 1, "--monte-carlo", 64, "--width", 16, "--replicates", 4, "--particles", 16, "--seed", 3]
    document = parse(run("estimate", *data, *options, "--json").out)
    network = FullyConnected(depth=1, width=16)
    expected = log_prior(network, DATA.X, labels, kernel=MonteCarlo(networks=64), seed=3, replicates=4, particles=16)
    (result,) = document["results"]
    assert result["log_p"] == pytest.approx(expected.value, abs=1e-9)
    assert result["stderr"] == pytest.approx(expected.stderr, rel=1e-6)
    assert result["interval"] == pytest.approx(expected.interval(), abs=1e-6)
    assert result["lower_bound"] is None
    assert result["diagnostics"]["kernel_stderr"] == pytest.approx(expected.diagnostics["kernel_stderr"], rel=1e-6)
    assert document["monte_carlo"]["networks"] == 64
    assert document["architecture"] == network.model_dump(mode="json")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("kernel compute --width 8", ["--width", "--monte-carlo"]),
        ("kernel compute -n 20 --monte-carlo 4", ["--out", "cache"]),
        ("kernel compute --monte-carlo 4 --out K.txt", [".npy"]),
        ("kernel compute --monte-carlo 4 --get ntk --out K.npy", ["--get", "means nothing beside --monte-carlo"]),
        ("kernel compute -n 20 --monte-carlo 1 --out K.npy", ["networks", "got 1"]),
        ("kernel compute --monte-carlo 4 --width 0 --out K.npy", ["width", "got 0"]),
        ("estimate --width 8", ["--width", "--monte-carlo"]),
        ("estimate --kernel-file K.npy --monte-carlo 4", ["--monte-carlo", "means nothing beside --kernel-file"]),
    ],
)
def test_what_cannot_be(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, parts: list) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments.split()), *parts)
    assert list(tmp_path.iterdir()) == []
