"""``nngp-prior sharpness measure`` and ``spectrum``."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data.splits import training_sets
from nngp_prior.schemas.measures.curvature import Eigenvalues
from nngp_prior.schemas.specs.data import Digits, OneVsRest
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.training.trained import Trained
from tests.cli.strict_json import parse

QUICK = ("--measure", "eigenvalues:largest=2,smallest=0,layer=dense 2", "--measure", "fisher-trace")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nngp_prior import FullyConnected
    from nngp_prior.schemas.specs.training import SGD, Training
    from nngp_prior.sharpness.training.train import train

    dataset, labelling = Digits(n=30), OneVsRest(label=3)
    sets = training_sets(dataset, labelling, 10, 0)
    source = {"dataset": dataset.model_dump(mode="json"), "labelling": labelling.model_dump(mode="json")}
    how = Training(optimizer=SGD(learning_rate=0.3), batch_size=8, epochs=3)
    path = tmp_path_factory.mktemp("trained") / "trained.npz"
    train(
        FullyConnected(depth=1, width=4),
        *sets.train,
        how,
        seeds=2,
        attack=sets.attack,
        source={**source, "attack": 10, "test": 0},
    ).save(path)
    return path


def test_json_is_what_python_computes(run, trained: Path) -> None:
    ended = run("sharpness", "measure", trained, *QUICK, "--on", "all", "--seed", 4, "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert document["on"] == "all"
    assert document["dataset"] == Digits(n=30).model_dump(mode="json")
    assert [network["network"] for network in document["networks"]] == [0, 1]
    networks, sets = Trained.load(trained), training_sets(Digits(n=30), OneVsRest(label=3), 10, 0)
    data = tuple(np.concatenate(parts) for parts in zip(sets.train, sets.attack, strict=True))
    asked = [Eigenvalues(largest=2, smallest=0, layer="dense 2"), "fisher-trace"]
    expected = measure(networks.architecture, networks.network(1), *data, asked, seed=4)
    found = document["networks"][1]
    assert (found["n"], found["training_loss"]) == (40, pytest.approx(expected.training_loss))
    for row, figure in zip(found["measurements"], expected.values(), strict=True):
        assert row["name"] == figure.name
        assert row["value"] == pytest.approx(figure.value)


def test_networks_that_training_has_not_finished_are_told(run, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut-off.npz"
    dataclasses.replace(Trained.load(trained), statuses=("unfinished", "zero-error")).save(path)
    ended = run("sharpness", "measure", path, "--measure", "fisher-trace", "--json")
    assert [each["status"] for each in parse(ended.out)["networks"]] == ["unfinished", "zero-error"]
    assert ended.err == "network 0 is unfinished: the run was interrupted. The same call resumes from the file\n"


def test_the_table_names_layers_and_tells_what_did_not_converge(run, trained: Path) -> None:
    ended = run("sharpness", "measure", trained, "--network", 1, "--measure", "eigenvalues:max_steps=2")
    assert ended.code == 0, ended.err
    assert "network 1" in ended.out
    assert "network 0" not in ended.out
    assert "lambda_max" in ended.out
    assert "not-converged" in ended.out
    assert "lambda_max: the residual is" in ended.err
    each = run("sharpness", "measure", trained, "--network", 0, "--measure", "fisher-trace:layer=each")
    assert "fisher_trace[dense 2]" in each.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--measure", "sharpness"), "--measure: got 'sharpness'"),
        (("--measure", "trace:probes"), "--measure: got 'trace:probes'"),
        (("--measure", "trace:probes=1"), "probes"),
        (("--measure", "none.json"), "none.json"),
        (("--measure", "trace:layer=dense 9"), "layer: got 'dense 9'"),
        (("--on", "test"), "--on: got 'test'"),
        (("--on", "everything"), "--on: got 'everything'"),
        (("--network", 7), "--network: got 7. The file has 0, 1."),
        (("--epoch", 2), "--epoch: got 2"),
        (("--loss", "hinge"), "--loss: got 'hinge'"),
        (("--dtype", "float16"), "dtype: got 'float16'"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(run, trained: Path, arguments: tuple, named: str) -> None:
    ended = run("sharpness", "measure", trained, *arguments)
    assert ended.code == 2
    assert named in ended.err


def test_a_specification_may_be_a_file(run, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "measure.json"
    path.write_text(json.dumps({"kind": "fisher-trace", "fisher": "empirical"}))
    ended = run("sharpness", "measure", trained, "--measure", path, "--network", 0, "--json")
    assert parse(ended.out)["networks"][0]["measurements"][0]["name"] == "empirical_fisher_trace"


def test_networks_that_do_not_say_what_they_were_trained_on(run, tmp_path: Path, trained: Path) -> None:
    import dataclasses

    networks = Trained.load(trained)
    path = tmp_path / "bare.npz"
    dataclasses.replace(networks, about={**networks.about, "source": {}}).save(path)
    ended = run("sharpness", "measure", path)
    assert ended.code == 2
    assert "do not say what data" in ended.err


def test_the_spectrum_is_drawn(run, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "spectrum.png"
    arguments = ("--out", out, "--probes", 3, "--steps", 20, "--matrix", "ggn", "--layer", "dense 2", "--points", 100)
    ended = run("sharpness", "spectrum", trained, *arguments, "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert document["rows"] == 5
    assert document["smallest_node"] >= -1e-6 * document["largest_node"]
    assert np.trapezoid(document["density"], document["eigenvalues"]) == pytest.approx(1, abs=1e-3)
    assert [sum(weights) for weights in document["weights"]] == pytest.approx([1, 1, 1])
    assert document["dtype"] == "float32"
    precise = parse(run("sharpness", "spectrum", trained, *arguments, "--dtype", "float64", "--json").out)
    height = max(precise["density"])
    assert document["eigenvalues"] == pytest.approx(
        precise["eigenvalues"], rel=1e-5, abs=1e-6 * precise["largest_node"]
    )
    assert document["density"] == pytest.approx(precise["density"], abs=1e-4 * height)
    assert "Plot: " in run("sharpness", "spectrum", trained, *arguments).out
    assert "--out" in run("sharpness", "spectrum", trained, "--out", tmp_path / "spectrum.jpg").err
