"""Data sets and labellings; the content hash covers every option."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator

from nngp_prior.schemas.arrays import numeric_array
from nngp_prior.schemas.base import MOST, PLAIN, Count, Said, Seed, Specification
from nngp_prior.schemas.lists import StopsEarly

PlainPreprocessing = Literal["none", "standardise", "unit-norm"]
Class = Annotated[int, Field(ge=-(2**31), lt=2**31), PLAIN]
Sign = Annotated[Literal[-1, 1], PLAIN]
Preprocessing = Literal["unit-interval", "standardise", "unit-norm", "none"]
_ImageClasses = Annotated[
    tuple[Annotated[int, Field(ge=0, le=9), PLAIN], ...],
    Field(min_length=1, max_length=10),
    StopsEarly(),
    Said({"uniqueItems": True}),
]


class _DataSet(Specification):
    """Options of all data sets.

    Attributes:
        n: number of inputs, drawn without replacement. Default: all.
        seed: random seed of the draw.
    """

    n: Count | None = None
    seed: Seed = 0


class ImageData(_DataSet):
    """A random subset of an image data set; without ``n``, all images in random order.

    Attributes:
        class_names: names of the classes 0 … 9; not a field.
        split: the official split; digits, which has none, is divided after four fifths in its original order.
        classes: classes that images are drawn from, in any order. Default: all ten.
        preprocessing: ``unit-interval`` divides by the largest possible pixel value; ``standardise`` gives mean 0 and
            variance 1 over all values of all inputs drawn together; ``unit-norm`` gives each image the Euclidean norm
            √d.
    """

    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    split: Literal["train", "test"] = "train"
    classes: _ImageClasses | None = None
    preprocessing: Preprocessing = "unit-interval"

    @field_validator("classes")
    @classmethod
    def _sort(cls, classes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Sort the classes: their order does not affect the draw and must not affect the hash."""
        if classes is not None and len(set(classes)) < len(classes):
            raise ValueError("Name each class once")
        return None if classes is None else tuple(sorted(classes))


class Digits(ImageData):
    """The 1,797 8 × 8 digits included in scikit-learn."""

    kind: Literal["digits"] = "digits"


class Mnist(ImageData):
    """MNIST, from IDX files or one ``.npz`` file per split in the folder ``mnist`` under ``NNGP_DATA``."""

    kind: Literal["mnist"] = "mnist"


class FashionMnist(ImageData):
    """Fashion-MNIST, in the format of MNIST in the folder ``fashion-mnist``."""

    class_names: ClassVar[tuple[str, ...]] = (
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
    )
    kind: Literal["fashion-mnist"] = "fashion-mnist"


class Cifar10(ImageData):
    """CIFAR-10, from binary batches or one ``.npz`` file per split in the folder ``cifar10`` under ``NNGP_DATA``."""

    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    kind: Literal["cifar10"] = "cifar10"


class Boolean(_DataSet):
    """All inputs of a Boolean function, in the order 0 … 2ᵇ-1 with the most significant bit first; or a subset of them.

    The class of an input is its number of ones: ``parity`` is the parity function, and ``threshold`` with at = (b +
    1)/2, for odd b, the majority.

    Attributes:
        bits: number of bits b.
        encoding: encoding of the bits 0 and 1: ``signs`` (-1 and +1) or ``bits`` (0 and 1).
        leave_out_zero: True to leave out the input 0 … 0 of the encoding ``bits``, where the output of a network
            without biases is 0, which has no sign.
        preprocessing: as for images, without ``unit-interval``.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"leave_out_zero": {"const": True}, "encoding": {"const": "signs"}},
                "required": ["leave_out_zero"],
            }
        }
    )

    kind: Literal["boolean"] = "boolean"
    bits: Annotated[int, Field(ge=1, le=20), PLAIN] = 7
    encoding: Literal["signs", "bits"] = "signs"
    leave_out_zero: StrictBool = False
    preprocessing: PlainPreprocessing = "none"

    @model_validator(mode="after")
    def _zero_is_an_input(self) -> Boolean:
        if self.leave_out_zero and self.encoding == "signs":
            raise ValueError("leave_out_zero needs encoding='bits': in signs no input is zero")
        return self

    @property
    def order(self) -> str:
        """Order of the inputs, in words."""
        whole = f"{int(self.leave_out_zero)} … {2**self.bits - 1}, most significant bit first"
        return whole if self.n is None else f"{self.n} drawn from {whole}"


def _lists_of(items: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of non-empty lists."""
    return {"type": "array", "minItems": 1, "items": items}


_ROW = _lists_of({"type": ["number", "boolean"]})
_INPUTS = _lists_of({"anyOf": [_ROW, _lists_of(_ROW), _lists_of(_lists_of(_ROW))]})


def _nested(x: object) -> object:
    """Convert to nested tuples of finite floats, in one form for all input types."""
    try:
        _require_numbers(x)
        X = numeric_array(x)
    except ValueError:
        raise ValueError("Give all inputs the same shape") from None
    except TypeError as error:
        raise ValueError(f"Give real numbers, in rows of the same length ({error})") from None
    if X.ndim not in (2, 3, 4) or X.size == 0:
        raise ValueError("Give at least one input, each a row of numbers or an image (height, width[, channels])")
    if not np.isfinite(X).all():
        raise ValueError("Give finite numbers")
    return _as_tuples(X.astype(np.float64) + 0.0)  # + 0 maps -0 to 0


def _require_numbers(x: object) -> None:
    """Refuse lists with text, which NumPy would convert to an array as wide as the longest."""
    if isinstance(x, list) and not set(map(type, x)) <= {int, float, bool}:
        for part in x:
            if isinstance(part, str):
                raise TypeError("it holds text")
            _require_numbers(part)


def _as_tuples(X: np.ndarray) -> tuple[Any, ...]:
    return tuple(X.tolist()) if X.ndim == 1 else tuple(map(_as_tuples, X))


class Inline(_DataSet):
    """Inputs included in the specification, in their order; or a random subset of them.

    Attributes:
        x: rows of numbers, or images (height, width) or (height, width, channels); lists and arrays are accepted too.
        classes: class of each input; without it only labellings that need none (random, constant, explicit) are
            available.
        preprocessing: as for images, without ``unit-interval``, since the largest possible value is unknown.
    """

    kind: Literal["inline"] = "inline"
    x: Annotated[tuple[Any, ...], BeforeValidator(_nested), Said(_INPUTS)]
    classes: Annotated[tuple[Class, ...], StopsEarly()] | None = None
    preprocessing: PlainPreprocessing = "none"

    @model_validator(mode="after")
    def _one_class_an_input(self) -> Inline:
        if self.classes is not None and len(self.classes) != len(self.x):
            raise ValueError(f"Give one of classes for each of the {len(self.x)} inputs; there are {len(self.classes)}")
        return self


SHA256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BlobData(_DataSet):
    """Inputs uploaded as arrays, in their order; or a random subset of them.

    Attributes:
        sha256: hash of the array of inputs: (n, d), (n, height, width) or (n, height, width, channels) real numbers.
        classes: hash of the array of n integer classes; without it only random, constant and explicit labellings are
            available.
        preprocessing: as for images, without ``unit-interval``, since the largest possible value is unknown.
    """

    kind: Literal["blob"] = "blob"
    sha256: SHA256
    classes: SHA256 | None = None
    preprocessing: PlainPreprocessing = "none"


_Named = Digits | Mnist | FashionMnist | Cifar10 | Boolean
NamedDataset = Annotated[_Named, Field(discriminator="kind")]  # without inputs of one's own
Dataset = Annotated[_Named | Inline, Field(discriminator="kind")]


class Randomise(Specification):
    """Redraw each label with a given probability from all labels, as assumed by the PAC-Bayes correction."""

    kind: Literal["randomise"] = "randomise"
    probability: Annotated[float, Field(ge=0, le=1), PLAIN]
    seed: Seed = 0


class Flip(Specification):
    """Change a given number of labels, chosen at random."""

    kind: Literal["flip"] = "flip"
    count: Annotated[int, Field(ge=0, le=MOST), PLAIN]
    seed: Seed = 0


Corruption = Annotated[Randomise | Flip, Field(discriminator="kind")]


class _Labelling(Specification):
    corruption: Corruption | None = None


class ByClass(_Labelling):
    """Labellings that are functions of an input's class; refused if all classes get the same label."""


class Threshold(ByClass):
    """+1 if the class is at least ``at``, else -1."""

    kind: Literal["threshold"] = "threshold"
    at: Class


class Parity(ByClass):
    """+1 if the class is odd, else -1."""

    kind: Literal["parity"] = "parity"


class OneVsRest(ByClass):
    """+1 if the class is ``label``, else -1."""

    kind: Literal["one-vs-rest"] = "one-vs-rest"
    label: Class


class TwoClasses(ByClass):
    """+1 for the class ``positive``, -1 for ``negative``; for data with these two ``classes`` only."""

    kind: Literal["two-classes"] = "two-classes"
    positive: Class
    negative: Class

    @model_validator(mode="after")
    def _two(self) -> TwoClasses:
        if self.positive == self.negative:
            raise ValueError("Name two different classes")
        return self


class Classes(ByClass):
    """The index 0 … C-1 of the class among those of the data; for estimators with ``classes`` = C."""

    kind: Literal["classes"] = "classes"


class RandomLabels(_Labelling):
    """Independent fair coin flips."""

    kind: Literal["random"] = "random"
    seed: Seed = 0


class Constant(_Labelling):
    """The same label for all inputs."""

    kind: Literal["constant"] = "constant"
    value: Sign = 1


class Explicit(_Labelling):
    """Explicit labels, -1 or +1, in the order of the data."""

    kind: Literal["explicit"] = "explicit"
    values: Annotated[tuple[Sign, ...], Field(min_length=1), StopsEarly()]


class BlobLabellings(_Labelling):
    """Labellings in an uploaded array, one per row: (n,) or (L, n) numbers, -1 or +1, in the order of the data."""

    kind: Literal["blob"] = "blob"
    sha256: SHA256


_Rule = Threshold | Parity | OneVsRest | TwoClasses | Classes | RandomLabels | Constant
LabellingRule = Annotated[_Rule, Field(discriminator="kind")]  # without a list of labels
Labelling = Annotated[_Rule | Explicit, Field(discriminator="kind")]


class TrainingData(Specification):
    """Source of the training, attack and test sets of trained networks: a data set, or files.

    Attributes:
        dataset: data set with ``n``, the number of training inputs; or None with ``inputs_file``.
        inputs_file: path of the inputs, in the order training set, attack set, test set.
        preprocessing: preprocessing of inputs from a file.
        labels_file: path of one labelling of all these inputs, with the true labels of the attack set.
        labelling: labelling if there is no ``labels_file``; its corruption applies to the training set only. Default:
            labels in the inputs' file.
        corruption: corruption of training labels from a file.
        n: number of training inputs from a file. Default: all except those of the other sets.
        attack: number of inputs in the attack set.
        test: number of inputs in the test set.
    """

    dataset: Dataset | None = None
    inputs_file: str | None = None
    preprocessing: PlainPreprocessing = "none"
    labels_file: str | None = None
    labelling: Labelling | None = None
    corruption: Corruption | None = None
    n: Count | None = None
    attack: Annotated[int, Field(ge=0, le=MOST), PLAIN] = 0
    test: Annotated[int, Field(ge=0, le=MOST), PLAIN] = 0
