"""Boolean inputs, inputs in the specification, and a user's own files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data import label, load, load_file, own_labels
from nngp_prior.data.own_files import read_labels
from nngp_prior.errors import DataMissing, DataUnavailable, InvalidInput, InvalidLabels
from nngp_prior.schemas.specs.data import Boolean, Inline, OneVsRest, Parity, Threshold
from tests.data.idx_files import idx_bytes

X = np.random.default_rng(0).standard_normal((6, 4))
CLASSES = np.array([3, 0, 1, 1, 0, 3])


def test_boolean_inputs_count_upwards_with_the_most_significant_bit_first() -> None:
    data = load(Boolean(bits=3, encoding="bits"))
    assert data.X.tolist() == [[int(bit) for bit in f"{number:03b}"] for number in range(8)]
    assert data.place.tolist() == list(range(8))
    assert data.image_shape == (3,)
    assert np.array_equal(data.images, data.X)
    assert np.array_equal(load(Boolean(bits=3)).X, 2 * data.X - 1)
    assert load(Boolean()).X.shape == (128, 7)


def test_the_class_of_a_boolean_input_is_its_number_of_ones() -> None:
    data = load(Boolean(bits=5))
    assert data.known_classes == tuple(range(6))
    parity = [1 if f"{number:b}".count("1") % 2 else -1 for number in range(32)]
    majority = [1 if f"{number:b}".count("1") >= 3 else -1 for number in range(32)]
    assert label(Parity(), data.classes, data.known_classes).tolist() == parity
    assert np.array_equal(parity, np.prod(data.X, axis=1))  # of an odd number of signs
    assert label(Threshold(at=3), data.classes).tolist() == majority
    assert label(OneVsRest(label=5), data.classes).tolist() == [-1] * 31 + [1]


def test_zero_is_left_out_where_it_has_no_label() -> None:
    whole, rest = (load(Boolean(encoding="bits", leave_out_zero=left_out)) for left_out in (False, True))
    assert len(rest.X) == 127
    assert np.array_equal(rest.X, whole.X[1:])
    assert rest.place.tolist() == list(range(1, 128))
    assert rest.known_classes == tuple(range(1, 8))
    assert rest.X.any(axis=1).all()


def test_a_draw_of_boolean_inputs_is_random_without_replacement_and_knows_their_numbers() -> None:
    data = load(Boolean(n=40, seed=2, encoding="bits", leave_out_zero=True))
    assert len(set(data.place)) == 40
    assert data.place.min() >= 1
    assert list(data.place) != sorted(data.place)
    assert np.array_equal(data.X @ 2 ** np.arange(6, -1, -1), data.place)
    assert not np.array_equal(data.place, load(Boolean(n=40, encoding="bits", leave_out_zero=True)).place)
    with pytest.raises(InvalidInput, match="n: 128 inputs where boolean has 127"):
        load(Boolean(n=128, encoding="bits", leave_out_zero=True))


@pytest.mark.parametrize(
    ("dataset", "order"),
    [
        (Boolean(), "0 … 127, most significant bit first"),
        (Boolean(bits=3, encoding="bits", leave_out_zero=True), "1 … 7, most significant bit first"),
        (Boolean(bits=3, n=5), "5 drawn from 0 … 7, most significant bit first"),
    ],
)
def test_the_order_of_boolean_inputs_in_words(dataset: Boolean, order: str) -> None:
    assert dataset.order == order


def test_boolean_inputs_are_preprocessed_where_that_is_asked_for() -> None:
    whole = load(Boolean(bits=3, encoding="bits", preprocessing="standardise")).X
    assert whole == pytest.approx(load(Boolean(bits=3)).X, abs=1e-12)  # half are ones
    with pytest.raises(InvalidInput, match="preprocessing: unit-norm on input 0, which is zero everywhere"):
        load(Boolean(bits=3, encoding="bits", preprocessing="unit-norm"))


def test_inline_inputs_are_taken_as_they_are_in_their_order() -> None:
    data = load(Inline(x=X.tolist(), classes=CLASSES.tolist()))
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.classes, CLASSES)
    assert data.place.tolist() == list(range(6))
    assert data.image_shape == (4,)
    assert data.known_classes == (0, 1, 3)
    drawn = load(Inline(x=X.tolist(), classes=CLASSES.tolist(), n=4, preprocessing="unit-norm"))
    assert np.array_equal(drawn.classes, CLASSES[drawn.place])
    assert np.linalg.norm(drawn.X, axis=1) == pytest.approx(np.full(4, 2.0))


@pytest.mark.parametrize(("shape", "image_shape"), [((2, 3), (3,)), ((2, 3, 4), (3, 4, 1)), ((2, 3, 4, 3), (3, 4, 3))])
def test_images_of_the_user_have_height_width_and_channels(
    tmp_path: Path, shape: tuple[int, ...], image_shape: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", images=x)
    for data in (load(Inline(x=x)), load_file(tmp_path / "x.npy"), load_file(tmp_path / "x.npz")):
        assert data.image_shape == image_shape
        assert np.array_equal(data.images, x.reshape(2, *image_shape))
        assert np.array_equal(data.X, x.reshape(2, -1))
        assert data.X.dtype == np.float64
        assert data.known_classes == ()


def test_classes_come_along_in_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=X, labels=CLASSES.astype(np.uint8))
    data = load_file(tmp_path / "own.npz", "standardise")
    assert np.array_equal(data.classes, CLASSES)
    assert data.known_classes == (0, 1, 3)
    assert np.allclose(data.X, (X - X.mean()) / X.std(), rtol=0, atol=1e-12)


def csv(*lines: str) -> bytes:
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "name", ["own.npz", "X.npz", "alone.npz", "own.csv", "quoted.csv", "train-images.idx3-ubyte.gz"]
)
def test_what_is_unambiguous_is_read(tmp_path: Path, name: str) -> None:
    """Labels as integers, floats, booleans or in a column (n, 1), under several names, or in a CSV file."""
    x, y = np.array([[0, 1], [2, 3], [4, 5]]), np.array([1, -1, 1])
    path = tmp_path / name
    match name:
        case "own.npz":
            np.savez(path, images=x, labels=y.astype(float))
        case "X.npz":
            np.savez(path, X=x, y=y[:, None] > 0)
        case "alone.npz":
            np.savez(path, x)  # arr_0
        case "own.csv":
            path.write_bytes(csv("\ufefflabel,a,b", "1,0,1", "-1,2,3", "1.0,4,5e0", ""))
        case "quoted.csv":
            path.write_bytes(csv("0,1", "2,3", '"4",5'))
        case _:
            path.write_bytes(gzip.compress(idx_bytes(x)))
    data = load_file(path)
    assert np.array_equal(data.X, x)
    with_labels = name in ("own.npz", "X.npz", "own.csv")
    assert data.classes.tolist() == (y.tolist() if with_labels else [0, 0, 0])
    assert data.known_classes == ((-1, 1) if with_labels else ())


@pytest.mark.parametrize("inputs", ["images", "X", "x"])
@pytest.mark.parametrize("labels", ["labels", "y"])
def test_an_archive_may_combine_all_names_of_inputs_and_labels(tmp_path: Path, inputs: str, labels: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **{inputs: X, labels: CLASSES, "other": X})  # pyright: ignore[reportArgumentType]
    data = load_file(path)
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.classes, CLASSES)


def test_an_archive_with_labels_under_another_name_is_told_apart_from_one_without(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, X=X, target=CLASSES, weights=CLASSES[:2], names=np.array([{}] * 6))
    data = load_file(path)
    with pytest.raises(InvalidLabels, match=r"no labels .* under the name labels or y \(of the same length: target\)"):
        own_labels(data.classes, data.known_classes, path)
    np.savez(path, X=X)
    with pytest.raises(InvalidLabels, match=r"own.npz has no labels beside its inputs\. Give labels, or choose"):
        own_labels(data.classes, data.known_classes, path)


@pytest.mark.parametrize("name", ["y.npy", "y.npz", "alone.npz", "y.csv", "train-labels-idx1-ubyte"])
def test_labels_are_read_from_the_same_formats(tmp_path: Path, name: str) -> None:
    y, path = np.array([3, 1, 26]), tmp_path / name
    match name:
        case "y.npy":
            np.save(path, y[:, None])
        case "y.npz":
            np.savez(path, y=y, images=np.zeros((3, 2)))
        case "alone.npz":
            np.savez(path, y)
        case "y.csv":
            path.write_bytes(csv("label", "3", "1", "26"))
        case _:
            path.write_bytes(idx_bytes(y))
    ((found, labels),) = read_labels(path)
    assert (found, labels.tolist()) == (name, y.tolist())
    path = tmp_path / "two.csv"
    path.write_bytes(csv("first,second", "1,-1", "1,1"))
    assert [(name, row.tolist()) for name, row in read_labels(path)] == [("first", [1, 1]), ("second", [-1, 1])]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.csv", csv("1,2", "3,abc"), "'abc'.* at row 1, column 2.*separated by commas"),
        ("x.csv", csv("1,2", "3"), "number of columns changed"),
        ("x.csv", csv("1,", "3,4"), "could not convert string '' to float64 at row 0, column 2"),
        ("x.csv", csv("0,1,2", "5,6,7"), "first line is 0, 1, 2 …, as numbers of columns"),
        ("x.csv", csv("a", "1,2"), "has 1 headings over 2 columns"),
        ("x.csv", csv(",a", "0,1"), "first column has no heading, as an index"),
        ("x.csv", csv("label,y,a", "0,1,2"), "has 2 columns of labels"),
        ("x.csv", csv("a,b"), "has no numbers"),
        ("x.csv", b"", "has no numbers"),
        ("x.csv", b"\xff\xfe1", "not text in UTF-8"),
        ("data_batch_1", b"\x80\x02}q", "is a pickle, which can run any program and is not read"),
    ],
)
def test_text_that_is_no_table_and_pickles_are_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match=problem) as caught:
        load_file(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_of_two_splits_is_no_data_of_its_own(tmp_path: Path) -> None:
    """Keras' mnist.npz; it is read as a data set."""
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=CLASSES, x_test=X, y_test=CLASSES)
    for read in (load_file, read_labels):
        with pytest.raises(DataUnavailable, match=r"it has x_test, x_train, y_test, y_train.*--data from a folder"):
            read(tmp_path / "mnist.npz")
    np.savez(tmp_path / "pathmnist.npz", train_images=X, train_labels=CLASSES, val_images=X)
    with pytest.raises(DataUnavailable, match=r"it has train_images, train_labels, val_images\)\. Save them with"):
        load_file(tmp_path / "pathmnist.npz")


def with_nan() -> np.ndarray:
    broken = X.copy()
    broken[4, 1] = np.nan
    return broken


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"inputs": X, "other": X}, r"which of its arrays are the inputs \(it has inputs, other\)\. Save them"),
        ({"images": X, "X": X}, r"several arrays of inputs \(images, X\)\. Save one of them"),
        ({"X": X, "labels": CLASSES, "y": CLASSES}, r"several arrays of labels \(labels, y\)\. Save one of them"),
        ({"images": with_nan()}, "input 4 has values that are not finite"),
        ({"images": X + 0j}, "inputs are complex128. Save real numbers"),
        ({"images": X.astype(str)}, "Save real numbers"),
        ({"images": X[0]}, r"inputs have shape \(4,\)"),
        ({"images": X[:0]}, r"inputs have shape \(0, 4\)"),
        ({"images": X, "labels": CLASSES[:5]}, r"labels are int64 of shape \(5,\) with 6 inputs"),
        ({"images": X, "labels": CLASSES / 2}, "labels are float64"),
        ({"images": np.array([[{}]])}, "Python objects, which are not read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataUnavailable, match=problem) as caught:
        load_file(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_and_a_preprocessing_that_cannot_be(tmp_path: Path) -> None:
    for name in ("absent.npy", "absent.npz"):
        with pytest.raises(DataMissing, match=f"{name}: no such file"):
            load_file(tmp_path / name)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InvalidInput, match=r"preprocessing: got 'unit-interval' .* none, standardise, unit-norm"):
        load_file(tmp_path / "x.npy", "unit-interval")


@pytest.mark.parametrize("preprocessing", ["standardise", "unit-norm"])
@pytest.mark.parametrize("exponent", [-1060, -600, 600, 1020])
def test_preprocessing_neither_overflows_nor_underflows(preprocessing: str, exponent: int) -> None:
    """A power of two changes no bit of the result, unless the inputs themselves lose some."""
    X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 1.5], [2.0, 2.5, -3.0]])
    usual = load(Inline(x=X.tolist(), preprocessing=preprocessing)).X
    extreme = load(Inline(x=np.ldexp(X, exponent).tolist(), preprocessing=preprocessing)).X
    np.testing.assert_array_equal(extreme, usual)
