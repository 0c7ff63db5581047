"""``nngp-prior worker``: a Dask worker that computes for services, in its own process."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nngp_prior.cli.common.processes import environment, run_module


def worker(
    address: Annotated[
        str | None,
        typer.Argument(envvar="NNGP_DASK_ADDRESS", help="address of the Dask scheduler, such as tcp://login:8786"),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(help="number of computing processes [number of cores; 1 with a GPU]")
    ] = None,
    memory_limit: Annotated[int | None, typer.Option(help="memory of these processes, bytes [80 % of RAM]")] = None,
    walltime: Annotated[
        str | None,
        typer.Option(help="time after which it must have ended: seconds, or HH:MM:SS or D-HH:MM:SS as in SLURM"),
    ] = None,
    drain: Annotated[
        str | None, typer.Option(help="time before that during which it takes no further units, seconds [60]")
    ] = None,
) -> None:
    """Compute units of work of services, which a Dask scheduler gives to this machine, until it is interrupted.

    SIGTERM, SIGINT and the walltime end it; its units are put back, and other workers compute them. If the scheduler is
    lost, it waits for it. The service has the same address in NNGP_DASK_ADDRESS. Uploads, kernels and studies are in
    NNGP_HOME, which should be the service's on a shared file system. The exit status is 0, or 2 for something that you
    can correct.
    """
    chosen = environment(dask_address=address, slots=slots, memory_limit=memory_limit, walltime=walltime, drain=drain)
    sys.exit(run_module("api.worker", chosen))
