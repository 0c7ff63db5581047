"""Requests that are planned: of labellings and large inputs nothing is listed, converted or held."""

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.data import load, outline
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import EstimateRequest, KernelRequest
from nngp_prior.schemas.specs.architecture import Convolutional, FullyConnected
from nngp_prior.schemas.specs.data import BlobData, BlobLabellings, Boolean, RandomLabels

SHA, OTHER = "a" * 64, "b" * 64


def runner(folder: Path, arrays: dict[str, np.ndarray], planning: bool = True) -> RequestRunner:
    return RequestRunner(KernelCache(folder, 10**9), arrays.__getitem__, planning=planning)


def peak(call: Callable[[], Any]) -> int:
    """Bytes that a call takes beside what it returns."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_labellings_are_counted_without_a_list(tmp_path: Path) -> None:
    looked: list[str] = []
    arrays = {SHA: np.broadcast_to(np.int8(1), (10**7, 3)), OTHER: np.ones(3, np.int8)}

    def blobs(sha256: str) -> np.ndarray:
        looked.append(sha256)
        return arrays[sha256]

    planned = RequestRunner(KernelCache(tmp_path, 10**9), blobs, planning=True)
    many, one, random = BlobLabellings(sha256=SHA), BlobLabellings(sha256=OTHER), RandomLabels()
    labellings = (random, many, one, *[many] * 1000)
    places = planned.places(labellings)
    assert len(places) == 2 + 1001 * 10**7
    assert peak(lambda: planned.places(labellings)) < 10**6
    assert sorted(set(looked)) == [SHA, OTHER]
    assert len(looked) == 2
    assert places[0] == (random, None)
    assert places[1] == (many, 0)
    assert places[10**7] == (many, 10**7 - 1)
    assert places[10**7 + 1] == (one, 0)
    assert places[10**7 + 2] == (many, 0)
    assert places[-1] == (many, 10**7 - 1)
    assert places[:2] == [(random, None), (many, 0)]
    with pytest.raises(IndexError):
        places[len(places)]


def test_the_search_for_a_labelling_that_can_be_used_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of nothing but wrong rows is accepted where finding that out would take long."""
    monkeypatch.setattr("nngp_prior.prior.request_runner._SEARCHED", 10)
    X, Y = np.eye(5), np.full((3, 5), 7, np.int8)
    planned = runner(tmp_path, {SHA: X, OTHER: Y})
    request = EstimateRequest(dataset=BlobData(sha256=SHA), labellings=(BlobLabellings(sha256=OTHER),))
    looked: list[int] = []
    labels = planned.labels
    monkeypatch.setattr(
        planned,
        "labels",
        lambda place, *args, **options: (looked.append(place.row), labels(place, *args, **options))[1],
    )
    assert planned.count(request) == 3
    assert looked == [0, 1]


LARGE: Sequence[tuple[Any, np.ndarray | None, Any]] = [
    (BlobData(sha256=SHA), np.arange(6 * 40, dtype=np.int8).reshape(6, 40), FullyConnected()),
    (BlobData(sha256=SHA, n=4, seed=3), np.linspace(-1, 1, 6 * 40).reshape(6, 40), FullyConnected()),
    (BlobData(sha256=SHA, preprocessing="unit-norm"), np.linspace(1, 2, 7 * 35).reshape(7, 5, 7), Convolutional()),
    (BlobData(sha256=SHA), np.asfortranarray(np.linspace(1, 2, 6 * 40).reshape(6, 40)), FullyConnected()),
    (Boolean(bits=5, n=20), None, FullyConnected()),
    (Boolean(bits=5, encoding="bits", leave_out_zero=True), None, FullyConnected()),
]


@pytest.mark.parametrize(("dataset", "array", "architecture"), LARGE, ids=range(6))
def test_keys_of_kernels_are_the_same_without_the_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any, array: np.ndarray | None, architecture: Any
) -> None:
    monkeypatch.setattr("nngp_prior.data.datasets._BLOCK", 70)
    monkeypatch.setattr("nngp_prior.data.datasets._LARGE", 1)
    arrays = {} if array is None else {SHA: array}
    request = KernelRequest(architecture=architecture, dataset=dataset)
    planned, computed = (runner(tmp_path, arrays, planning) for planning in (True, False))
    data, whole = planned.data(dataset), computed.data(dataset)
    assert not any(data.X.strides)
    assert any(whole.X.strides)
    assert planned.kernel_key(request) == computed.kernel_job(request).key
    assert planned.kernel_job(request).X.shape == computed.kernel_job(request).X.shape
    assert np.array_equal(data.classes, whole.classes)
    assert (data.image_shape, data.known_classes) == (whole.image_shape, whole.known_classes)
    assert not planned.has(request)


def test_large_inputs_take_no_memory_to_plan(tmp_path: Path) -> None:
    """400 MB of int8 would be 3.2 GB in float64."""
    path = tmp_path / "inputs.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.int8, (400, 1_000_000))
    del stored
    array = np.load(path, mmap_mode="r")
    dataset = BlobData(sha256=SHA)
    planned = runner(tmp_path, {SHA: array})
    request = KernelRequest(dataset=dataset)
    assert peak(lambda: planned.kernel_job(request)) < 10**6
    assert planned.kernel_job(request).X.shape == (400, 1_000_000)
    small = BlobData(sha256=SHA, n=3)
    assert peak(lambda: planned.kernel_key(KernelRequest(dataset=small))) < 5 * 10**7
    standardised = BlobData(sha256=SHA, preprocessing="standardise")
    assert planned.kernel_key(KernelRequest(dataset=standardised)) is None
    assert not planned.has(KernelRequest(dataset=standardised))


def test_small_inputs_are_loaded_and_checked_as_ever(tmp_path: Path) -> None:
    dataset = Boolean(bits=4)
    assert np.array_equal(outline(dataset).X, load(dataset).X)
    assert runner(tmp_path, {}).data(dataset).X.shape == (16, 4)


def test_inputs_are_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.numerics.large_arrays._BLOCK", 10)
    for shape in ((30, 3), (3, 30), (4, 5, 6)):
        X = np.ones(shape)
        assert check_inputs("X", X, FullyConnected()).shape == (shape[0], X[0].size)
        X.flat[-2] = np.nan
        with pytest.raises(ValueError, match=f"input {shape[0] - 1} has the value nan at feature {X[0].size - 2}"):
            check_inputs("X", X, FullyConnected())
