import struct
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel
from nngp_prior.data import load
from nngp_prior.schemas.specs.architecture import Convolutional, ConvolutionLayer, Residual
from nngp_prior.schemas.specs.data import Digits
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused

X = load(Digits(n=20)).X
SMALL = ["-n", "20", "--json"]


def test_a_file_is_what_python_computes(run, tmp_path: Path) -> None:
    out = tmp_path / "K.npy"
    ended = run("kernel", "compute", *SMALL, "--out", out, "--depth", 3, "--activation", "erf", "--bias-std", 0.3)
    document = parse(ended.out)
    assert (ended.code, ended.err) == (0, "")
    expected = kernel(FullyConnected(depth=3, activation="erf", bias_std=0.3), X)
    assert np.array_equal(np.load(out), expected)
    assert (document["n"], document["dtype"], document["get"], document["file"]) == (20, "float64", "nngp", str(out))
    assert document["dataset"] == Digits(n=20).model_dump(mode="json")
    assert document["tiles_computed"] == 1
    assert document["bytes"] == 8 * 20 * 20
    again = parse(
        run("kernel", "compute", *SMALL, "--out", out, "--depth", 3, "--activation", "erf", "--bias-std", 0.3).out
    )
    assert again["tiles_computed"] == 0
    assert again["kernel"] == document["kernel"]


@pytest.mark.parametrize(
    ("options", "architecture"),
    [
        ("convolutional", Convolutional()),
        ("convolutional --depth 2 --readout global-average-pool", Convolutional(
            layers=(ConvolutionLayer(),) * 2, readout="global-average-pool")),
        pytest.param("residual --blocks 2 --layer-norm", Residual(blocks=2, layer_norm=True), marks=pytest.mark.slow),
        pytest.param("myrtle-5 --weight-std 1.2", Convolutional.myrtle(5, weight_std=1.2), marks=pytest.mark.slow),
    ],
    ids=["convolutional", "two convolutions", "residual", "myrtle"],
)  # fmt: skip
def test_architectures(run, options: str, architecture: Convolutional | Residual) -> None:
    """Their names; what the kernels are is tested elsewhere."""
    document = parse(run("kernel", "compute", "-n", "3", "--architecture", *options.split(), "--json").out)
    assert document["architecture"] == architecture.model_dump(mode="json")
    assert document["input_shape"] == [8, 8, 1]


def test_a_specification_from_a_file(run, tmp_path: Path) -> None:
    architecture = Convolutional(layers=(ConvolutionLayer(padding="valid", stride=2),))
    file = tmp_path / "network.json"
    file.write_text(architecture.model_dump_json())
    document = parse(run("kernel", "compute", *SMALL, "--architecture", file).out)
    assert document["architecture"] == architecture.model_dump(mode="json")
    assert_refused(run("kernel", "compute", "--architecture", file, "--bias-std", 1), "--bias-std", "means nothing")
    file.write_text('{"kind": "convolutional", "layers": [{"kind": "convolution", "size": 0}]}')
    assert_refused(run("kernel", "compute", "--architecture", file), "layers.0.convolution.size", "got 0")
    file.write_text("{")
    assert_refused(run("kernel", "compute", "--architecture", file), str(file), "no JSON")


def test_images_from_a_file(run, tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X.reshape(20, 8, 8))
    call = ["kernel", "compute", "--inputs-file", tmp_path / "X.npy", "--architecture", "convolutional", "--json"]
    document = parse(run(*call, "--dtype", "float32", "--get", "ntk", "--out", tmp_path / "K.npy").out)
    expected = kernel(Convolutional(), X.reshape(20, 8, 8), dtype="float32", get="ntk")
    assert np.array_equal(np.load(tmp_path / "K.npy"), expected)
    assert document["inputs"] == str(tmp_path / "X.npy")
    np.save(tmp_path / "X.npy", X)
    assert_refused(run(*call), "--inputs-file (X): has shape (20, 64)", "(n, height, width)")
    np.save(tmp_path / "X.npy", X.reshape(20, 4, 4, 4)[:, :3])
    assert_refused(run(*call), "channels first", "set the architecture's --input-channels 4.")
    assert run(*call, "--input-channels", 4).code == 0


def test_the_cache_is_filled_listed_used_and_emptied(run) -> None:
    first = parse(run("kernel", "compute", *SMALL).out)
    assert parse(run("kernel", "compute", *SMALL).out)["tiles_computed"] == 0
    estimate = parse(run("estimate", "-n", 20, "--labelling", "parity", "--method", "ep", "--json").out)
    assert estimate["kernel"] == first["kernel"]
    listed = parse(run("kernel", "list", "--json").out)
    (entry,) = listed["entries"]
    assert entry["kernel"] == first["kernel"]
    assert entry["dataset"]["kind"] == "digits"
    assert entry["finished"]
    assert listed["bytes"] == entry["bytes"] == 8 * 20 * 20 + 128
    table = run("kernel", "list")
    assert first["kernel"][:12] in table.out
    assert "fully-connected, depth 2, relu" in table.out
    assert parse(run("kernel", "evict", "--json").out)["removed"] == []
    removed = parse(run("kernel", "evict", "--bytes", 0, "--json").out)["removed"]
    assert [entry["kernel"] for entry in removed] == [first["kernel"]]
    assert parse(run("kernel", "list", "--json").out)["entries"] == []


def test_inspecting(run, tmp_path: Path) -> None:
    inputs = np.vstack([X, X[3]])
    np.save(tmp_path / "X.npy", inputs)
    made = parse(run("kernel", "compute", "--inputs-file", tmp_path / "X.npy", "--json").out)
    found = parse(run("kernel", "inspect", made["kernel"][:10], "--json").out)
    K = kernel(FullyConnected(), inputs)
    assert (found["n"], found["symmetric"], found["singular"], found["rank"]) == (21, True, True, 20)
    assert found["trace"] == pytest.approx(np.trace(K), rel=1e-12)
    assert found["eigenvalues"] == pytest.approx(np.linalg.eigvalsh(K)[::-1], abs=1e-12)
    assert found["tied_pairs"] == [{"inputs": [3, 20], "correlation": 1}]
    np.save(tmp_path / "K.npy", K)
    of_file = parse(run("kernel", "inspect", tmp_path / "K.npy", "--json").out)
    assert of_file["eigenvalues"] == found["eigenvalues"]
    shown = run("kernel", "inspect", tmp_path / "K.npy")
    assert "effective rank" in shown.out
    assert "Inputs 3 and 20 have correlation +1" in shown.err


def test_plotting(run, tmp_path: Path) -> None:
    key = parse(run("kernel", "compute", *SMALL).out)["kernel"]
    for source, by_class in ((key, True), (tmp_path / "K.npy", False)):
        np.save(tmp_path / "K.npy", kernel(FullyConnected(), X))
        out = tmp_path / "kernel.png"
        document = parse(run("kernel", "plot", source, "--out", out, "--json").out)
        assert document["sorted_by_class"] == by_class
        image = out.read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", image[16:24])
        assert width > 1000
        assert height > 500
        out.unlink()


def test_titles_of_plots_say_data_and_network_and_no_file(run, tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", kernel(FullyConnected(), X))
    run("kernel", "compute", *SMALL, "--out", tmp_path / "own-of-data.npy")
    wanted = {
        "own.npy": f"kernel of {len(X)} inputs",
        "own-of-data.npy": "NNGP kernel of 20 digits (train split), fully-connected",
    }
    for name, title in wanted.items():
        run("kernel", "plot", tmp_path / name, "--out", tmp_path / "kernel.svg")
        figure = (tmp_path / "kernel.svg").read_text()
        assert title in figure
        assert "own" not in figure


@pytest.mark.usefixtures("without_extras")
def test_plots_need_matplotlib(run, tmp_path: Path) -> None:
    refused = run("kernel", "plot", "K.npy", "--out", tmp_path / "K.png")
    assert_refused(refused, "matplotlib: is not installed", 'pip install "nngp-prior[plots]"')


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("compute --architecture transformer", ["architecture", "'transformer'", "fully-connected", "myrtle-5"]),
        ("compute --architecture none.json", ["none.json", "no such file"]),
        ("compute --architecture residual --depth 3", ["depth", "Residual has no such field", "blocks"]),
        ("compute --architecture myrtle-5 --depth 3", ["--depth", "means nothing beside"]),
        ("compute --architecture convolutional --depth 0", ["depth", "got 0", "at least one"]),
        ("compute --readout flatten", ["readout", "FullyConnected has no such field"]),
        ("compute --get cov", ["get", "'cov'", "nngp, ntk"]),
        ("compute --dtype float16", ["dtype", "'float16'", "float64"]),
        ("compute --out K.txt", ["path", "K.txt", ".npy"]),
        ("compute --out none/K.npy", ["path", "none", "a folder that exists"]),
        ("compute --data cifar", ["--data", "'cifar'", "digits"]),
        ("compute --inputs-file X.npy --data mnist", ["--data", "means nothing beside --inputs-file"]),
        ("compute --inputs-file none.npy", ["none.npy", "no such file"]),
        ("inspect none.npy", ["none.npy", "no such file"]),
        ("inspect abc", ["key", "'abc'", "0 kernels"]),
        ("plot none.npy --out K.jpg", ["--out", "K.jpg", ".png"]),
        ("plot none.npy --out none/K.png", ["--out", "none/K.png"]),
        ("plot none.npy", ["none.npy", "no such file"]),
    ],
)
def test_what_cannot_be(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, parts: list) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run("kernel", *arguments.split()), *parts)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("kernel", "list")
    (tmp_path / "home").touch()
    monkeypatch.setenv("NNGP_HOME", str(tmp_path / "home"))
    assert_refused(run("kernel", "compute", "-n", 20), "NNGP_HOME", "NNGP_CACHE_BYTES=0")
    monkeypatch.setenv("NNGP_CACHE_BYTES", "0")
    assert_refused(run("kernel", "compute", "-n", 20), "--out", "3.2 kB", "NNGP_CACHE_BYTES")
    assert run("estimate", "-n", 20, "--labelling", "parity", "--method", "ep").code == 0
    assert (tmp_path / "home").read_bytes() == b""
    monkeypatch.setenv("NNGP_CACHE_BYTES", "-1")
    assert_refused(run("kernel", "list"), "cache_bytes", "-1")
