import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nngp_prior.data import load
from nngp_prior.data.datasets import DATASETS
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.specs.data import Digits, FashionMnist, Mnist
from tests.data.idx_files import idx_bytes, write_image_data

PIXELS, CLASSES = load_digits(return_X_y=True)


def raw(n: int, seed: int = 0) -> np.ndarray:
    """The pixels that ``Digits(n=n, seed=seed)`` is made from."""
    return PIXELS[load(Digits(n=n, seed=seed)).place]


def test_digits_are_cut_after_four_fifths_in_their_own_order() -> None:
    train, test = load(Digits(preprocessing="none")), load(Digits(split="test", preprocessing="none"))
    assert sorted(train.place) == list(range(1437))
    assert sorted(test.place) == list(range(360))
    assert np.array_equal(train.X, PIXELS[:1437][train.place])
    assert np.array_equal(test.X, PIXELS[1437:][test.place])
    assert np.array_equal(train.classes, CLASSES[:1437][train.place])
    assert np.array_equal(test.classes, CLASSES[1437:][test.place])


def test_too_many_images_are_refused_with_the_largest_number() -> None:
    assert len(load(Digits(n=360, split="test")).X) == 360
    with pytest.raises(InvalidInput, match=r"361 inputs where digits \(test\) has 360") as caught:
        load(Digits(n=361, split="test"))
    assert caught.value.field == "n"
    assert "at most 360" in caught.value.remedy


def test_the_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    first = load(Digits(n=50)).place
    assert len(set(first)) == 50
    assert np.array_equal(first, load(Digits(n=50, preprocessing="standardise")).place)
    assert np.array_equal(first, load(Digits(n=70)).place[:50])
    assert not np.array_equal(first, load(Digits(n=50, seed=1)).place)


def test_preprocessing_follows_its_formulas() -> None:
    pixels = raw(40)
    assert np.array_equal(load(Digits(n=40, preprocessing="none")).X, pixels)
    assert np.array_equal(load(Digits(n=40)).X, pixels / 16)
    standardised = load(Digits(n=40, preprocessing="standardise")).X
    assert standardised == pytest.approx((pixels - pixels.mean()) / pixels.std(), abs=1e-12)
    norms = np.sqrt((load(Digits(n=40, preprocessing="unit-norm")).X ** 2).sum(axis=1))
    assert norms == pytest.approx(np.full(40, 8.0), rel=1e-12)
    cosines = (load(Digits(n=40, preprocessing="unit-norm")).X * pixels).sum(axis=1) / np.linalg.norm(pixels, axis=1)
    assert cosines == pytest.approx(norms, rel=1e-12)


def test_images_have_the_shape_that_the_data_set_states() -> None:
    data = load(Digits(n=7, preprocessing="none"))
    assert data.image_shape == (8, 8, 1)
    assert data.images.shape == (7, 8, 8, 1)
    assert np.array_equal(data.images[3, 2, 5, 0], data.X[3, 8 * 2 + 5])


def test_a_draw_from_some_classes_has_those_alone() -> None:
    data = load(Digits(classes=(7, 2)))
    assert set(data.classes) == {2, 7} == set(data.known_classes)
    assert sorted(data.place) == np.flatnonzero(np.isin(CLASSES[:1437], [2, 7])).tolist()
    assert np.array_equal(data.classes, CLASSES[data.place])
    assert np.array_equal(data.X * 16, PIXELS[data.place])
    assert np.array_equal(load(Digits(classes=(7, 2), n=20)).place, data.place[:20])
    too_many = len(data.X) + 1
    with pytest.raises(InvalidInput, match=rf"n: {too_many} inputs where digits \(train, classes 2, 7\) has"):
        load(Digits(classes=(7, 2), n=too_many))


def test_all_ten_classes_give_the_same_draw_as_none() -> None:
    assert np.array_equal(load(Digits(n=30, classes=tuple(range(10)))).X, load(Digits(n=30)).X)


@pytest.mark.usefixtures("ten_images")
def test_classes_without_an_image_are_refused() -> None:
    write_image_data(Path(os.environ["NNGP_DATA"]), "mnist", np.ones((3, 28, 28)), np.array([0, 1, 2]))
    with pytest.raises(InvalidInput, match=r"mnist \(train, classes 7\) has 0"):
        load(Mnist(classes=(7,)))


@pytest.fixture
def ten_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fashion-MNIST of ten images, the last of them black; returns the path of the labels."""
    images = np.random.default_rng(0).integers(1, 256, (10, 28, 28))
    images[9] = 0
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    return write_image_data(tmp_path, "fashion-mnist", images, np.arange(10))


@pytest.mark.usefixtures("ten_images")
def test_idx_images_are_flattened_scaled_and_keep_their_labels() -> None:
    images = np.random.default_rng(0).integers(1, 256, (10, 28, 28))
    images[9] = 0
    data = load(FashionMnist())
    assert data.X.dtype == np.float64
    assert np.array_equal(data.X * 255, images.reshape(10, 784)[data.place])
    assert np.array_equal(data.classes, data.place)


@pytest.mark.usefixtures("ten_images")
def test_a_black_image_has_no_direction() -> None:
    black = int(np.flatnonzero(load(FashionMnist()).place == 9)[0])
    with pytest.raises(InvalidInput, match=rf"preprocessing: .* input {black}\b"):
        load(FashionMnist(preprocessing="unit-norm"))


def test_images_that_are_all_alike_have_no_spread(ten_images: Path) -> None:
    write_image_data(ten_images.parents[1], "mnist", np.full((3, 28, 28), 7), np.arange(3))
    with pytest.raises(InvalidInput, match="preprocessing: standardise"):
        load(Mnist(preprocessing="standardise"))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(np.arange(9), r"\(9,\) where .* has 10 images"), (np.arange(1, 11), "label 10, which is not among 0 … 9")],
    ids=["another number", "out of range"],
)
def test_labels_that_do_not_fit_are_refused(ten_images: Path, labels: np.ndarray, problem: str) -> None:
    ten_images.write_bytes(idx_bytes(labels))
    with pytest.raises(DataUnavailable, match=problem) as caught:
        load(FashionMnist())
    assert str(caught.value).startswith(f"{ten_images}: ")


def test_a_missing_file_is_named_with_the_folder_that_was_searched(ten_images: Path) -> None:
    ten_images.unlink()
    with pytest.raises(DataUnavailable) as caught:
        load(FashionMnist())
    assert str(caught.value).startswith(f"{ten_images}.gz: no such file")
    with pytest.raises(DataUnavailable, match="t10k-images"):
        load(FashionMnist(split="test"))


def test_without_a_data_folder_the_variable_to_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNGP_DATA", raising=False)
    with pytest.raises(DataUnavailable, match="mnist: NNGP_DATA is not set"):
        load(Mnist(n=5))


@pytest.mark.usefixtures("image_data")
@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        (Mnist(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (Mnist(split="test"), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        (FashionMnist(), [6000] * 10),
        (FashionMnist(split="test"), [1000] * 10),
    ],
    ids=["mnist train", "mnist test", "fashion train", "fashion test"],
)
def test_the_real_images_are_all_there(dataset: Mnist | FashionMnist, counts: list[int]) -> None:
    raw = DATASETS[dataset](dataset)
    assert np.bincount(raw.classes).tolist() == counts
    assert raw.images.shape == (sum(counts), 28, 28, 1)
    assert raw.images.max() == raw.largest_pixel == 255
    assert raw.known_classes == tuple(range(10))


@pytest.mark.usefixtures("image_data")
def test_real_images_look_like_their_labels() -> None:
    """Ones have the least ink and zeros the most, which would not be so if images and labels were mixed up."""
    data = load(Mnist(n=2000))
    ink = [data.X[data.classes == digit].mean() for digit in range(10)]
    assert np.argmin(ink) == 1
    assert np.argmax(ink) == 0
