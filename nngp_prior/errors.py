"""Every error this package raises on purpose.

    NngpPriorError
    ├── InvalidInput        (also a ValueError)   a field, its value, what is wrong, what to do
    │   ├── InvalidKernel       K is not a covariance matrix
    │   └── InvalidLabels       labels are not ±1 or classes, or do not fit K
    ├── DataUnavailable     (also an OSError)     a data file is missing or corrupt
    │   └── DataMissing         there is no such file
    ├── MissingExtra        (also an ImportError) a package of an extra is not installed
    ├── ResourceLimit       (also a MemoryError)  the work would not fit; says the largest n that does
    ├── NotFinished         (also a TimeoutError) a job was waited for, and not long enough
    └── ServiceError        a service refused, failed, or cannot be reached

Non-convergence is no error: it is the ``status`` of an ``Estimate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.problem, self.remedy)  # from a process of a pool, say


class InvalidKernel(InvalidInput):
    """K is not a covariance matrix that has labels: shape, NaN, asymmetry, indefinite, zero variance."""


class InvalidLabels(InvalidInput):
    """Labels that are not ±1, booleans or classes, or whose number is not that of the inputs."""


class DataUnavailable(NngpPriorError, OSError):
    """A data file that is missing, short, or not what its name says."""


class DataMissing(DataUnavailable):
    """A data file that is not there, apart from one that is there and broken."""


class MissingExtra(NngpPriorError, ImportError):
    """A package that an optional feature needs is not installed.

    Args:
        package: the package.
        extra: the extra of nngp-prior that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f'{package}: is not installed. Run: pip install "nngp-prior[{extra}]"')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


class ResourceLimit(NngpPriorError, MemoryError):
    """Work that needs more memory than there is; raised before it starts."""


class NotFinished(NngpPriorError, TimeoutError):
    """A job that has not ended in the time that was allowed for it; it goes on."""


class ServiceError(NngpPriorError):
    """What a service answered instead of what was asked for, or that none answered.

    What would be another error of this tree in process is that error: :class:`InvalidInput` where the service names a
    field, :class:`ResourceLimit` and :class:`DataUnavailable`. Their ``__context__`` is the service's own.

    Args:
        problem: the details, as RFC 9457 has them.
        retry_after: seconds after which to try again, where the service said so.

    Attributes:
        problem: the details.
        status: of HTTP; None where nothing was answered.
        code: what problems are told apart by: ``queue-full``, ``not-found``, …; ``unreachable`` where nothing was
            answered.
        retryable: whether the same may succeed later.
        retry_after: as above.
    """

    def __init__(self, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.problem, self.retry_after = dict(problem), retry_after
        self.status: int | None = problem.get("status")
        self.code: str = problem.get("code", "unknown")
        self.retryable: bool = problem.get("retryable", False)
        super().__init__(problem.get("detail") or problem.get("title") or self.code)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.retry_after)
