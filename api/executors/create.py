"""Choice of the executor by the settings."""

from __future__ import annotations

from importlib.metadata import entry_points

from api.executors.base import Executor
from api.executors.local import LocalExecutor
from api.executors.memory import WORKER_BYTES
from api.files import store_id
from api.settings import MachineSettings, ServerSettings
from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra
from nngp_prior.numerics.cgroup import memory_bytes
from nngp_prior.numerics.threads import cores


def executor_of(settings: ServerSettings) -> Executor:
    """Create the executor of a service.

    Args:
        settings: settings of the service.

    Returns:
        processes on this machine, or workers of the Dask scheduler in ``NNGP_DASK_ADDRESS``.
    """
    if settings.dask_address is None:
        return local_executor(settings, settings.task_seconds)
    require_extra("dask")
    from api.executors.dask_executor import DaskExecutor  # needs the extra dask

    return DaskExecutor(
        settings.dask_address,
        task_seconds=settings.task_seconds,
        memory_limit=settings.memory_limit,
        folder=store_id(settings.home),
    )


def local_executor(settings: MachineSettings, task_seconds: float) -> LocalExecutor:
    """Create an executor of processes on this machine.

    Args:
        settings: its settings.
        task_seconds: time limit of a task, seconds.

    Returns:
        the executor: one slot per core; one slot if JAX has an accelerator, whose memory suffices for one.

    Raises:
        InvalidInput: if the memory limit does not suffice for the processes.
    """
    memory = settings.memory_limit or memory_bytes() * 4 // 5
    slots = settings.slots or (1 if entry_points(group="jax_plugins") else cores())
    if memory <= slots * WORKER_BYTES:
        problem = f"{memory:,} bytes are less than {slots} processes take before they compute"
        remedy = f"Allow more than {slots * WORKER_BYTES:,}, or set NNGP_SLOTS to fewer processes."
        raise InvalidInput("NNGP_MEMORY_LIMIT", problem, remedy)
    return LocalExecutor(
        slots,
        home=settings.home,
        blobs=settings.home / "blobs",
        task_seconds=task_seconds,
        memory_limit=memory,
    )
