"""Data sets and labellings, every choice in the content hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import Specification

Preprocessing = Literal["unit-interval", "standardise", "unit-norm", "none"]


class _ImageData(Specification):
    """A random subset of an image data set.

    Attributes:
        n: number of images, drawn without replacement; all of the split when absent.
        split: the official one; digits, which has none, is cut after four fifths in its own order.
        seed: of the draw.
        preprocessing: ``unit-interval`` divides by the largest possible pixel value; ``standardise`` then makes mean
            0 and variance 1 over all pixels of the subset; ``unit-norm`` makes each image's Euclidean norm √d.
    """

    n: Annotated[int, Field(ge=1)] | None = None
    split: Literal["train", "test"] = "train"
    seed: Annotated[int, Field(ge=0)] = 0
    preprocessing: Preprocessing = "unit-interval"


class Digits(_ImageData):
    """The 1,797 8 × 8 digits that scikit-learn brings along."""

    kind: Literal["digits"] = "digits"


class Mnist(_ImageData):
    """MNIST, from IDX files in the folder ``mnist`` under ``NNGP_DATA``."""

    kind: Literal["mnist"] = "mnist"


class FashionMnist(_ImageData):
    """Fashion-MNIST, from IDX files in the folder ``fashion-mnist`` under ``NNGP_DATA``."""

    kind: Literal["fashion-mnist"] = "fashion-mnist"


Dataset = Annotated[Digits | Mnist | FashionMnist, Field(discriminator="kind")]


class Randomise(Specification):
    """Each label is redrawn from ±1 with a probability, independently: what the PAC-Bayes correction assumes."""

    kind: Literal["randomise"] = "randomise"
    probability: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0)] = 0


class Flip(Specification):
    """A given number of labels, chosen at random, change sign."""

    kind: Literal["flip"] = "flip"
    count: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)] = 0


Corruption = Annotated[Randomise | Flip, Field(discriminator="kind")]


class _Labelling(Specification):
    corruption: Corruption | None = None


class Threshold(_Labelling):
    """+1 where the class is at least ``at``."""

    kind: Literal["threshold"] = "threshold"
    at: int


class Parity(_Labelling):
    """+1 where the class is odd."""

    kind: Literal["parity"] = "parity"


class OneVsRest(_Labelling):
    """+1 where the class is ``label``."""

    kind: Literal["one-vs-rest"] = "one-vs-rest"
    label: int


class RandomLabels(_Labelling):
    """Independent fair coins."""

    kind: Literal["random"] = "random"
    seed: Annotated[int, Field(ge=0)] = 0


class Constant(_Labelling):
    """The same label everywhere."""

    kind: Literal["constant"] = "constant"
    value: Literal[-1, 1] = 1


class Explicit(_Labelling):
    """The labels themselves, -1 or +1, in the order of the data."""

    kind: Literal["explicit"] = "explicit"
    values: tuple[Literal[-1, 1], ...]


Labelling = Annotated[Threshold | Parity | OneVsRest | RandomLabels | Constant | Explicit, Field(discriminator="kind")]
