"""``nngp-prior sharpness landscape``."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data.splits import training_sets
from nngp_prior.schemas.specs.data import Digits, OneVsRest
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.sharpness.loss_landscape import landscape
from nngp_prior.sharpness.surface import Surface
from nngp_prior.sharpness.training.trained import Trained
from tests.cli.strict_json import parse

DATASET, LABELLING = Digits(n=20), OneVsRest(label=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nngp_prior import FullyConnected
    from nngp_prior.schemas.specs.training import SGD, Training
    from nngp_prior.sharpness.training.train import train

    sets = training_sets(DATASET, LABELLING)
    how = Training(optimizer=SGD(learning_rate=0.3), batch_size=10, goal="none", epochs=4, keep_every=1)
    source = {"dataset": DATASET.model_dump(mode="json"), "labelling": LABELLING.model_dump(mode="json")}
    path = tmp_path_factory.mktemp("trained") / "trained.npz"
    source |= {"attack": 0, "test": 0}
    train(FullyConnected(depth=1, width=4), *sets.train, how, seeds=2, source=source).save(path)
    return path


def test_json_file_and_plot_are_what_python_computes(run, trained: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "line.npz", tmp_path / "line.png"
    arguments = ("--network", 1, "--points", 5, "--radius", 0.5, "--seed", 3, "--out", out, "--plot", plot)
    ended = run("sharpness", "landscape", trained, *arguments, "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    networks, sets = Trained.load(trained), training_sets(DATASET, LABELLING)
    specification = Landscape(points=5, radius=0.5)
    expected = landscape(networks.architecture, networks.network(1), *sets.train, specification, seed=3)
    assert document["loss"] == expected.loss.tolist()
    assert document["error"] == expected.error.tolist()
    assert document["coordinates"] == [expected.coordinates[0].tolist()]
    assert (document["network"], document["dataset"]) == (1, DATASET.model_dump(mode="json"))
    assert np.array_equal(Surface.load(out).loss, expected.loss)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_plane_along_the_path_of_training(run, trained: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plane.png"
    arguments = ("--dimensions", 2, "--points", 4, "--trajectory", "--plot", plot)
    ended = run("sharpness", "landscape", trained, *arguments)
    assert ended.code == 0, ended.err
    assert "nearest to the network" in ended.out
    assert "16 points" in ended.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    document = parse(run("sharpness", "landscape", trained, *arguments[:-2], "--json").out)
    assert np.shape(document["trajectory"]) == (4, 2)
    assert document["trajectory"][-1] == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--dimensions", 3), "dimensions: got 3"),
        (("--points", 1), "points: got 1"),
        (("--normalisation", "batch"), "normalisation: got 'batch'"),
        (("--out", "line.txt"), "--out: got 'line.txt'"),
        (("--plot", "line.jpg"), "--plot: got 'line.jpg'"),
        (("--network", 7), "--network: got 7"),
        (("--trajectory", "--epoch", 0), "--trajectory: the file has no parameters on the way"),
        (("--on", "test"), "--on: got 'test'"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(run, trained: Path, arguments: tuple, named: str) -> None:
    ended = run("sharpness", "landscape", trained, *arguments)
    assert ended.code == 2
    assert named in ended.err
