"""Exceptions raised by this package.

    NngpPriorError
    ├── InvalidInput        (also a ValueError)   field, value, problem, remedy
    │   ├── InvalidKernel       K is not a covariance matrix
    │   └── InvalidLabels       labels are not ±1 or classes, or do not fit K
    ├── DataUnavailable     (also an OSError)     a data file is missing or corrupt
    │   └── DataMissing         the file does not exist
    ├── MissingExtra        (also an ImportError) a package of an extra is not installed
    ├── ResourceLimit       (also a MemoryError)  the work would not fit; names the largest n that does
    ├── NotFinished         (also a TimeoutError) a job did not finish within the timeout
    └── ServiceError        a service refused, failed, or cannot be reached

Non-convergence is not an error: it is the ``status`` of an ``Estimate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NngpPriorError(Exception):
    """Base class of all exceptions of this package."""


class InvalidInput(NngpPriorError, ValueError):
    """Raised if an argument or field is invalid.

    Args:
        field: name of the argument or field, as the user wrote it.
        problem: description of the problem, with the value.
        remedy: suggested correction.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.problem, self.remedy)  # for pickling between processes


class InvalidKernel(InvalidInput):
    """Raised if K is not a covariance matrix that has labels: shape, NaN, asymmetry, indefinite, zero variance."""


class InvalidLabels(InvalidInput):
    """Raised if labels are not ±1, booleans or classes, or their number is not that of the inputs."""


class DataUnavailable(NngpPriorError, OSError):
    """Raised if a data file is missing, truncated, or not of the type that its name implies."""


class DataMissing(DataUnavailable):
    """Raised if a data file does not exist, as opposed to an existing but broken file."""


class MissingExtra(NngpPriorError, ImportError):
    """Raised if a package that an optional feature needs is not installed.

    Args:
        package: name of the missing package.
        extra: the extra of nngp-prior that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f'{package}: is not installed. Run: pip install "nngp-prior[{extra}]"')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


class ResourceLimit(NngpPriorError, MemoryError):
    """Raised, before the work starts, if it needs more memory than is free."""


class NotFinished(NngpPriorError, TimeoutError):
    """Raised when a job does not finish within ``timeout``; the job keeps running."""


class ServiceError(NngpPriorError):
    """Raised if a service cannot be reached, or answers a request with an error.

    If the same problem in process would raise another exception of this package, that one is raised instead:
    :class:`InvalidInput` if the service names a field, :class:`ResourceLimit` and :class:`DataUnavailable`. Their
    ``__context__`` is the service's own error.

    Args:
        problem: problem details, as defined by RFC 9457.
        retry_after: seconds after which to retry, if the service states them.

    Attributes:
        problem: problem details.
        status: HTTP status; None if there was no answer.
        code: identifier of the problem: ``queue-full``, ``not-found``, …; ``unreachable`` if there was no answer.
        retryable: True if the same request may succeed later.
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
