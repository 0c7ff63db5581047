"""A table and a dispatcher that serves it."""

from collections.abc import Callable
from typing import NamedTuple

from api.jobs.dispatcher import Dispatcher
from api.jobs.table import JobTable

LIMIT = 1000  # bytes


class Service(NamedTuple):
    table: JobTable
    dispatcher: Dispatcher


Start = Callable[..., Service]
