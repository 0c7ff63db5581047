import math
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, FunctionCounts, complexity, kernel, log_probability, sample_functions
from nngp_prior.data import load
from nngp_prior.schemas.specs.data import Boolean
from tests.cli.strict_json import parse

OPTIONS = ("--bits", 4, "--width", 20, "--weight-std", 1, "--bias-std", 0)
NETWORK = FullyConnected(width=20, weight_std=1, bias_std=0)


def test_json_is_what_python_computes(run) -> None:
    ended = run("sample", "-N", 5000, *OPTIONS, "--seed", 3, "--top", 3, "--estimate", "ep", "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    X = load(Boolean(bits=4)).X
    counts = sample_functions(NETWORK, X, 5000, seed=3)
    assert document["dataset"] == Boolean(bits=4).model_dump(mode="json")
    assert document["order"] == Boolean(bits=4).order
    assert (document["units"], document["source"], document["seed"]) == ("nats", "networks", 3)
    assert (document["n"], document["draws"], document["functions"]) == (16, 5000, len(counts))
    assert (document["architecture"]["width"], document["undecided"]) == (20, counts.undecided)
    K = kernel(NETWORK, X)
    assert len(document["top"]) == 3
    for found, expected in zip(document["top"], counts.top(3), strict=True):
        assert found["labels"] == "".join("01"[int(label > 0)] for label in expected.labels)
        assert (found["rank"], found["draws"]) == (expected.rank, expected.draws)
        assert found["lempel_ziv"] == complexity("lempel-ziv", expected.labels)
        assert found["frequency"]["log_p"] == pytest.approx(expected.frequency.value)
        assert found["frequency"]["interval"] == pytest.approx(expected.frequency.interval(0.95))
        ep = log_probability(K, expected.labels, method="ep", seed=3)
        assert found["estimates"]["ep"]["log_p"] == pytest.approx(ep.value, abs=1e-9)
        assert "compared" not in found


def test_table_plot_and_comparison(run, tmp_path: Path) -> None:
    gp, out, plot = tmp_path / "gp.npz", tmp_path / "networks.npz", tmp_path / "ranks.png"
    assert run("sample", "-N", 3000, *OPTIONS, "--source", "gp", "--out", gp).code == 0
    ended = run("sample", "-N", 3000, *OPTIONS, "--out", out, "--compare", gp, "--top", 2, "--plot", plot,
                "--estimate", "smc", "--estimate", "ep")  # fmt: skip
    assert ended.code == 0, ended.err
    assert plot.read_bytes().startswith(b"\x89PNG")
    counts, other = FunctionCounts.load(out), FunctionCounts.load(gp)
    assert (counts.source, other.source) == ("networks", "gp")
    for _, labels, draws, frequency in counts.top(2):
        row = next(line for line in ended.out.splitlines() if f" {draws:,} " in line)
        assert f"{frequency.value:.2f}" in row or f"{frequency.value:.3f}" in row
        compared = other.frequency(labels)
        assert f"{compared.value:.2f}" in row or f"{compared.value:.3f}" in row
    assert "smc" in ended.out
    assert "ep" in ended.out


def test_a_repeated_command_goes_on(run, tmp_path: Path) -> None:
    out = tmp_path / "counts.npz"
    run("sample", "-N", 2000, *OPTIONS, "--out", out)
    assert run("sample", "-N", 6000, *OPTIONS, "--out", out).code == 0
    found, whole = FunctionCounts.load(out), sample_functions(NETWORK, load(Boolean(bits=4)).X, 6000)
    assert np.array_equal(found.functions, whole.functions)
    assert np.array_equal(found.counts, whole.counts)


def test_the_zero_vector_is_left_out_and_dead_networks_are_told_of(run) -> None:
    ended = run("sample", "-N", 2000, "--bits", 3, "--encoding", "bits", "--width", 2, "--bias-std", 0)
    assert ended.code == 0
    assert "of 7 inputs" in ended.out
    assert "exactly 0" in ended.err
    ended = run("sample", "-N", 2000, "--bits", 3, "--encoding", "bits", "--keep-zero", "--bias-std", 0)
    assert ended.code == 2
    assert "input 0 is zero everywhere" in ended.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-N", 0), "networks"),
        (("--source", "other"), "source"),
        (("--top", 0), "--top"),
        (("--out", "counts.txt"), "--out"),
        (("--plot", "plot.txt"), "--plot"),
        (("--estimate", "other"), "method"),
        (("--compare", "missing.npz"), "missing.npz"),
    ],
)
def test_what_cannot_be_used_is_named(run, arguments: tuple, named: str) -> None:
    ended = run("sample", "-N", 100, *OPTIONS, *arguments)
    assert ended.code == 2
    assert named in ended.err
    assert "Traceback" not in ended.err


def test_counts_of_other_inputs_are_not_compared(run, tmp_path: Path) -> None:
    out = tmp_path / "counts.npz"
    run("sample", "-N", 100, *OPTIONS, "--out", out)
    ended = run("sample", "-N", 100, *OPTIONS, "--data-seed", 1, "-n", 8, "--compare", out)
    assert ended.code == 2
    assert "--compare" in ended.err


def test_constants_are_the_most_frequent_ones(run) -> None:
    top = parse(run("sample", "-N", 4000, *OPTIONS, "--json").out)["top"]
    assert {each["labels"] for each in top[:2]} == {"0" * 16, "1" * 16}
    assert top[0]["frequency"]["log_p"] == pytest.approx(math.log(top[0]["draws"] / 4000))
