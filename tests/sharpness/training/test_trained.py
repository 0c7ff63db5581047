"""Files of trained networks."""

import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from nngp_prior import FromNetwork
from nngp_prior.errors import DataMissing, DataUnavailable, InvalidInput
from nngp_prior.sharpness.training.train import train
from nngp_prior.sharpness.training.trained import Trained
from tests.sharpness.small import ATTACK, NETWORK, QUICK, TEST, X, Y


@pytest.fixture(scope="module")
def trained() -> Trained:
    how = QUICK.model_copy(update={"epochs": 4, "keep_every": 2})
    return train(NETWORK, X, Y, how, seeds=3, attack=ATTACK, **TEST, seed=5, source={"what": "random"})


def test_what_is_saved_comes_back(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "trained.npz"
    trained.save(path)
    found = Trained.load(path)
    assert found.architecture == trained.architecture
    assert found.training == trained.training
    assert (found.seed, found.seeds, found.statuses) == (5, (0, 1, 2), trained.statuses)
    assert found.about == trained.about
    assert found.about["source"] == {"what": "random"}
    assert jax.tree.structure(found.parameters) == jax.tree.structure(trained.parameters)
    both = (jax.tree.leaves((each.parameters, each.kept)) for each in (found, trained))
    for a, b in zip(*both, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
    for name in ("epochs", "reached", "kept_epochs", "test_outputs", "test_labels", "loss", "error", "test_error"):
        assert np.array_equal(getattr(found, name), getattr(trained, name)), name
    assert found.history.keys() == trained.history.keys()
    for name, values in found.history.items():
        assert np.array_equal(values, trained.history[name], equal_nan=True)
    assert found.outputs(TEST["X_test"]) == pytest.approx(trained.test_outputs, rel=1e-6)
    assert found.network(1)[0][0].shape == (3, 8)
    with pytest.raises(InvalidInput, match="i: got 3 of 3 networks"):
        found.network(3)


def test_arrays_are_plain_and_named_in_a_manifest(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "trained.npz"
    trained.save(path)
    with np.load(path, allow_pickle=False) as archive:
        manifest = json.loads(str(archive["manifest"]))
        assert set(archive) == {"manifest", *manifest["arrays"]}
        for name, described in manifest["arrays"].items():
            assert (list(archive[name].shape), str(archive[name].dtype)) == (described["shape"], described["dtype"])


def test_damaged_files_are_refused(trained: Trained, tmp_path: Path) -> None:
    path, damaged = tmp_path / "trained.npz", tmp_path / "damaged.npz"
    trained.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*range(0, 200, 13), *rng.integers(len(content), size=40)]:
        other = bytearray(content)
        other[position] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(other)
        try:
            found = Trained.load(damaged)
        except DataUnavailable:
            continue
        # What nobody reads, such as times of files.
        assert all(map(np.array_equal, jax.tree.leaves(found.parameters), jax.tree.leaves(trained.parameters)))
    for length in (0, 100, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(DataUnavailable, match=r"damaged\.npz"):
            Trained.load(damaged)
    with pytest.raises(DataMissing):
        Trained.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"statuses": ["zero-error"]},
        {"statuses": ["fine"] * 3},
        {"arrays": {}},
        {"about": {}},
        {"about": {"architecture": {"kind": "fully-connected", "width": 9}}},
    ],
    ids=str,
)
def test_files_of_something_else_are_refused(trained: Trained, tmp_path: Path, change: dict) -> None:
    path, other = tmp_path / "trained.npz", tmp_path / "other.npz"
    trained.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    manifest = json.loads(str(arrays.pop("manifest")))
    if change.get("about"):
        change = {"about": manifest["about"] | change["about"]}
    np.savez(other, manifest=np.array(json.dumps(manifest | change)), **arrays)
    with pytest.raises(DataUnavailable, match="no trained networks"):
        Trained.load(other)
    np.savez(other, counts=np.arange(3))
    with pytest.raises(DataUnavailable, match="no trained networks"):
        Trained.load(other)


def test_an_array_that_is_missing(trained: Trained, tmp_path: Path) -> None:
    path, other = tmp_path / "trained.npz", tmp_path / "other.npz"
    trained.save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            if name != "parameters/2.npy":
                new.writestr(name, old.read(name))
    with pytest.raises(DataUnavailable, match="no trained networks"):
        Trained.load(other)


def test_ones_own_network_is_handed_over_again(trained: Trained, tmp_path: Path) -> None:
    def init(key, shape):
        return (shape[0],), {"w": jax.random.normal(key, (shape[-1],))}

    def apply(parameters, inputs):
        return inputs @ parameters["w"]

    own, path = FromNetwork(init, apply, name="linear"), tmp_path / "trained.npz"
    found = train(own, X, Y, QUICK.model_copy(update={"epochs": 0}), **TEST)
    found.save(path)
    assert np.array_equal(Trained.load(path, own).outputs(TEST["X_test"]), found.test_outputs)
    for given in (None, FromNetwork(init, apply, name="other")):
        with pytest.raises(InvalidInput, match="'linear'"):
            Trained.load(path, given)
    trained.save(path)
    with pytest.raises(InvalidInput, match="a specification"):
        Trained.load(path, own)
