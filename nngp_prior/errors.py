"""Every error this package raises on purpose.

    NngpPriorError
    ├── InvalidInput        (also a ValueError)   a field, its value, what is wrong, what to do
    │   ├── InvalidKernel       K is not a covariance matrix
    │   └── InvalidLabels       labels are not ±1 or classes, or do not fit K
    ├── DataUnavailable     (also an OSError)     a data file is missing or corrupt
    │   └── DataMissing         there is no such file
    └── ResourceLimit       (also a MemoryError)  the work would not fit; says the largest n that does

Non-convergence is no error: it is the ``status`` of an ``Estimate``.
"""

from __future__ import annotations


class NngpPriorError(Exception):
    """The root of the tree."""


class InvalidInput(NngpPriorError, ValueError):
    """A value that cannot be used.

    Args:
        field: the name of the argument or field, as the user wrote it.
        problem: what is wrong, with the value.
        remedy: what to do instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}. {remedy}")


class InvalidKernel(InvalidInput):
    """K is not a covariance matrix that has labels: shape, NaN, asymmetry, indefinite, zero variance."""


class InvalidLabels(InvalidInput):
    """Labels that are not ±1, booleans or classes, or whose number is not that of the inputs."""


class DataUnavailable(NngpPriorError, OSError):
    """A data file that is missing, short, or not what its name says."""


class DataMissing(DataUnavailable):
    """A data file that is not there, apart from one that is there and broken."""


class ResourceLimit(NngpPriorError, MemoryError):
    """Work that needs more memory than there is; raised before it starts."""
