"""CIFAR-10's batches, and archives in place of original files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data import image_files, load
from nngp_prior.errors import DataMissing, DataUnavailable
from nngp_prior.schemas.specs.data import Cifar10, FashionMnist, Mnist
from tests.data.idx_files import cifar_batch, idx_bytes, write_archive, write_image_data

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.arange(15, dtype=np.uint8) % 10


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NNGP_DATA; batches hold three records."""
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    monkeypatch.setattr(image_files, "_BATCH", 3)
    return tmp_path


@pytest.fixture
def batches(root: Path) -> Path:
    """The folder with five training batches and one for tests, with three images each."""
    folder = root / "cifar10"
    folder.mkdir()
    for i in range(5):
        part = slice(3 * i, 3 * i + 3)
        (folder / f"data_batch_{i + 1}.bin").write_bytes(cifar_batch(RGB[part], LABELS[part]))
    (folder / "test_batch.bin").write_bytes(cifar_batch(RGB[:3], LABELS[:3]))
    return folder


@pytest.mark.usefixtures("batches")
def test_batches_are_read_in_their_order_with_channels_last() -> None:
    data = load(Cifar10(preprocessing="none"))
    assert data.image_shape == (32, 32, 3)
    assert sorted(data.place) == list(range(15))
    assert np.array_equal(data.images, RGB[data.place])
    assert np.array_equal(data.classes, LABELS[data.place])
    test = load(Cifar10(split="test"))
    assert sorted(test.place) == [0, 1, 2]
    assert np.array_equal(test.images * 255, RGB[test.place])


@pytest.mark.parametrize("change", [-1, 1, -3073, 3073])
def test_a_batch_of_another_length_is_refused(batches: Path, change: int) -> None:
    path = batches / "data_batch_2.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + content[:change])
    with pytest.raises(
        DataUnavailable, match=rf"{9219 + change:,} bytes where 3 records of 3,073 make 9,219"
    ) as caught:
        load(Cifar10())
    assert str(caught.value).startswith(f"{path}: ")
    assert len(load(Cifar10(split="test")).X) == 3


def test_a_label_out_of_range_is_refused_with_the_name_of_its_batch(batches: Path) -> None:
    path = batches / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[3073] = 10
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match="label 10, which is not among 0 … 9") as caught:
        load(Cifar10())
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_batch_is_named_and_is_no_missing_data_set(batches: Path) -> None:
    (batches / "data_batch_3.bin").unlink()
    with pytest.raises(DataUnavailable, match=r"data_batch_3\.bin: no such file, while others") as caught:
        load(Cifar10())
    assert not isinstance(caught.value, DataMissing)


@pytest.mark.parametrize("dataset", [Mnist(), FashionMnist(), Cifar10(), Cifar10(split="test")], ids=lambda x: x.kind)
def test_a_missing_data_set_is_told_from_a_broken_one_with_what_is_accepted(root: Path, dataset) -> None:
    for _ in range(2):
        with pytest.raises(DataMissing) as caught:
            load(dataset)
        message = str(caught.value)
        assert str(root / dataset.kind) in message
        assert "keys images and labels" in message
        assert f"with {dataset.split}, and not" in message
        (root / dataset.kind).mkdir(exist_ok=True)


@pytest.mark.parametrize(
    "images", [RGB, RGB.transpose(0, 3, 1, 2).reshape(15, 3072), RGB.astype(np.int64)], ids=["shaped", "rows", "int64"]
)
def test_an_archive_of_cifar10(root: Path, images: np.ndarray) -> None:
    """Rows have the order of the original files: red, green, blue."""
    write_archive(root / "cifar10" / "my_Train_part.npz", images=images, labels=LABELS, index=np.arange(15))
    data = load(Cifar10(preprocessing="none"))
    assert np.array_equal(data.images, RGB[data.place])
    assert np.array_equal(data.classes, LABELS[data.place])
    with pytest.raises(DataMissing, match=r"test_batch\.bin: no such file"):
        load(Cifar10(split="test"))


def test_an_archive_of_another_format_is_named(root: Path) -> None:
    write_archive(root / "mnist" / "pathmnist.npz", train_images=GREY, val_images=GREY)
    with pytest.raises(DataMissing, match=r"no such file\. pathmnist\.npz there has train_images, val_images\. Put"):
        load(Mnist())


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 28, 28, 1), (6, 784)])
@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_an_archive_of_grey_images(root: Path, kind: type[Mnist | FashionMnist], shape: tuple[int, ...]) -> None:
    dataset = kind(split="test")
    write_archive(root / dataset.kind / "test.npz", images=GREY.reshape(shape), labels=LABELS[:6])
    data = load(dataset)
    assert data.image_shape == (28, 28, 1)
    assert np.array_equal(data.images[..., 0] * 255, GREY[data.place])
    assert np.array_equal(data.classes, LABELS[data.place])


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dot", "-.")
@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "mnist/MNIST/raw", "mnist/raw"])
def test_original_files_by_their_other_names(root: Path, folder: str, dot: str, ending: str) -> None:
    """With dots, as they are in some archives; uncompressed; in the folders that torchvision makes."""
    (root / folder).mkdir(parents=True)
    for name, array in ((f"t10k-images{dot}idx3-ubyte", GREY), (f"t10k-labels{dot}idx1-ubyte", LABELS[:6])):
        content = idx_bytes(array)
        (root / folder / (name + ending)).write_bytes(gzip.compress(content) if ending else content)
    data = load(Mnist(split="test"))
    assert np.array_equal(data.images[..., 0] * 255, GREY[data.place])
    assert np.array_equal(data.classes, LABELS[data.place])


def test_the_binary_archive_of_cifar10_as_it_is_unpacked(batches: Path) -> None:
    batches.rename(batches.parent / "cifar-10-batches-bin")
    assert len(load(Cifar10()).X) == 15


def test_archives_of_keras_of_kmnist_and_with_a_column_of_labels(root: Path) -> None:
    write_archive(root / "mnist" / "mnist.npz", x_train=GREY, y_train=LABELS[:6], x_test=GREY[:4], y_test=LABELS[:4])
    assert (len(load(Mnist()).X), len(load(Mnist(split="test")).X)) == (6, 4)
    write_archive(root / "fashion-mnist" / "kmnist-train-imgs.npz", arr_0=GREY)
    write_archive(root / "fashion-mnist" / "kmnist-train-labels.npz", arr_0=LABELS[:6])
    data = load(FashionMnist())
    assert np.array_equal(data.images[..., 0] * 255, GREY[data.place])
    assert np.array_equal(data.classes, LABELS[data.place])
    write_archive(root / "cifar10" / "train.npz", images=RGB, labels=LABELS[:, None])
    data = load(Cifar10())
    assert np.array_equal(data.classes, LABELS[data.place])


@pytest.mark.parametrize("folder", ["cifar10", "cifar-10-batches-py"])
def test_pickles_are_not_read_and_named(root: Path, folder: str) -> None:
    (root / folder).mkdir()
    (root / folder / "data_batch_1").write_bytes(b"\x80\x02}q")
    with pytest.raises(
        DataUnavailable, match=r"data_batch_1: is of the Python version .*cifar-10-binary\.tar\.gz"
    ) as caught:
        load(Cifar10())
    assert not isinstance(caught.value, DataMissing)


def test_labels_of_emnist_are_told_where_they_can_be_read(root: Path) -> None:
    write_image_data(root, "mnist", GREY, np.array([1, 26, 3, 4, 5, 6]))
    with pytest.raises(DataUnavailable, match=r"label 26, .* EMNIST's letters .* read as --inputs-file"):
        load(Mnist())


def test_original_files_come_before_archives(batches: Path) -> None:
    write_archive(batches / "train.npz", images=RGB[:2], labels=LABELS[:2])
    assert len(load(Cifar10()).X) == 15


def test_an_archive_is_chosen_by_its_name_alone_and_never_guessed(root: Path) -> None:
    folder = root / "cifar10"
    write_archive(folder / "latest_train.npz", images=RGB[:2], labels=LABELS[:2])
    with pytest.raises(DataMissing):  # "test" in the name does not make it the test set
        load(Cifar10(split="test"))
    write_archive(folder / "cifar10_train_a.npz", images=RGB[:3], labels=LABELS[:3])
    assert len(load(Cifar10()).X) == 3
    write_archive(folder / "cifar10_train_b.npz", images=RGB[:4], labels=LABELS[:4])
    with pytest.raises(DataUnavailable, match=r"cifar10_train_a\.npz, cifar10_train_b\.npz where there may be one"):
        load(Cifar10())


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"images": RGB}, "has no array labels"),
        ({"labels": LABELS}, "has no array images"),
        ({"images": RGB, "labels": LABELS[:9]}, r"labels have shape \(9,\) where .* has 15 images"),
        ({"images": RGB, "labels": np.stack([LABELS, LABELS], 1)}, r"labels have shape \(15, 2\)"),
        ({"a": RGB, "b": LABELS}, r"has no array images \(it has a, b\)"),
        ({"images": RGB, "labels": LABELS + 1}, "label 10, which is not among 0 … 9"),
        ({"images": RGB, "labels": LABELS.astype(int) - 1}, "label -1, which is not among 0 … 9"),
        ({"images": RGB, "labels": LABELS / 1}, "labels are float64 and no integers"),
        ({"images": RGB, "labels": LABELS.astype(str)}, "labels are <U3 and no integers"),
        ({"images": RGB / 255, "labels": LABELS}, "images are float64 and no integers"),
        ({"images": np.full_like(RGB, np.nan, float), "labels": LABELS}, "images are float64 and no integers"),
        ({"images": RGB.astype(int) * 2, "labels": LABELS}, "pixels from 0 to 510, outside 0 … 255"),
        ({"images": RGB.astype(int) - 1, "labels": LABELS}, "pixels from -1 to 254, outside 0 … 255"),
        ({"images": RGB.transpose(0, 3, 1, 2), "labels": LABELS}, r"\(15, 3, 32, 32\) where \(n, 32, 32, 3\)"),
        ({"images": RGB[..., :1], "labels": LABELS}, r"\(15, 32, 32, 1\) where"),
        ({"images": RGB[0, 0, 0], "labels": LABELS}, r"shape \(3,\) where"),
        ({"images": RGB[:0], "labels": LABELS[:0]}, "has no images"),
        ({"images": np.array([{}] * 15), "labels": LABELS}, "Python objects, which are not read"),
    ],
)  # fmt: skip
def test_a_wrong_archive_is_named_with_what_is_wrong(root: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    path = write_archive(root / "cifar10" / "train.npz", **arrays)
    with pytest.raises(DataUnavailable, match=problem) as caught:
        load(Cifar10())
    assert str(caught.value).startswith(str(path))
    assert not isinstance(caught.value, DataMissing)


def test_images_of_another_size_are_refused_in_idx_files_too(root: Path) -> None:
    write_image_data(root, "mnist", np.zeros((4, 14, 56)), LABELS[:4])
    with pytest.raises(DataUnavailable, match=r"shape \(4, 14, 56\) where \(n, 28, 28\)"):
        load(Mnist())


def test_real_cifar10_images_are_the_official_first_ones_and_look_like_their_labels(cifar10_data: Path) -> None:
    """The first ten labels of each split are known; pictures are smooth, unless channels or rows are mixed up."""
    assert cifar10_data.is_dir()
    for split, labels in (("train", [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]), ("test", [3, 8, 8, 0, 6, 6, 1, 6, 3, 1])):
        data = load(Cifar10(split=split, preprocessing="none"))
        in_order = np.argsort(data.place)
        assert data.classes[in_order[:10]].tolist() == labels
        images = data.images[:500]
        steps = [np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2)]
        assert max(steps) < images.std() / 3
        blue, red = (images[data.classes[:500] == label].mean(axis=(0, 1, 2)) for label in (8, 6))
        assert blue[2] - blue[0] > red[2] - red[0]  # ships are on the water, frogs are not


def test_cat_against_car(cifar10_data: Path) -> None:
    assert cifar10_data.is_dir()
    data = load(Cifar10(classes=(3, 1), n=100))
    assert set(data.classes) == {1, 3}
    assert data.images.shape == (100, 32, 32, 3)
    assert 0 <= data.X.min() < 0.1 < 0.9 < data.X.max() <= 1
