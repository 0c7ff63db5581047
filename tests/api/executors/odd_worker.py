"""A Dask worker whose child processes run odd tasks: ``nngp-prior worker`` with another module for them."""

from api import worker
from api.executors.local import LocalExecutor
from api.settings import MachineSettings
from tests.api.executors.tasks import make


def _odd_executor(settings: MachineSettings, task_seconds: float) -> LocalExecutor:
    return make(settings.home, settings.slots or 1, task_seconds, memory_limit=settings.memory_limit)


if __name__ == "__main__":
    worker.local_executor = _odd_executor
    worker.main()
