"""``nngp-prior slurm``: a batch script of SLURM for workers, with or without their scheduler and service."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nngp_prior.errors import InvalidInput

_NOTICE = 120  # seconds before the end of the job at which SLURM tells the script
_DRAIN = 60  # seconds before that during which workers take no further units
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SHARE = 0.8  # of the memory of a node, for the processes that compute

_TLS = """\
tls={folder}
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$tls/ca.pem
for role in SCHEDULER WORKER CLIENT; do
  export "DASK_DISTRIBUTED__COMM__TLS__${{role}}__CERT=$tls/cert.pem"
  export "DASK_DISTRIBUTED__COMM__TLS__${{role}}__KEY=$tls/key.pem"
done
"""

_SCHEDULER = """\
# The first node has the scheduler{and_service}. Units of work are small: it needs little of a core.
address={protocol}://$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):{port}
dask scheduler --protocol {protocol} --port {port} --no-dashboard &
started+=($!)
mkdir -p "$NNGP_HOME"
echo "$address" > "$NNGP_HOME/dask-address"
"""

_SERVICE = """\
# The service, on the first node alone: ssh -L 8000:127.0.0.1:8000 NODE; the token is in $NNGP_HOME/token.
NNGP_DASK_ADDRESS=$address nngp-prior serve &
started+=($!)
"""

_WORKERS = """\
# SLURM sends SIGTERM to this script {notice} s before the end of the time limit. Workers then put their units back, and
# the job is queued again under the same number; what was accepted and computed is kept. After scancel it is not queued.
again=
trap 'again=yes' TERM
srun --kill-on-bad-exit=0 nngp-prior worker "$address" &
workers=$!
status=0
wait -n || status=$?  # until SIGTERM, or the end of any of these processes
scancel --signal=TERM "$SLURM_JOB_ID" || true  # to the workers
while kill -0 "$workers" 2> /dev/null; do
  wait "$workers" || true
done
[ ${{#started[@]}} -eq 0 ] || kill "${{started[@]}}" 2> /dev/null || true
wait
[ -z "$again" ] || exec scontrol requeue "$SLURM_JOB_ID"
exit "$status"
"""


@dataclass(frozen=True)
class Batch:
    """Resources and surroundings of a batch job.

    Attributes:
        nodes: number of nodes.
        gpus: number of GPUs per node; 0: none.
        cpus: number of cores per worker; None: SLURM's default.
        memory: memory per node, as SLURM writes it; None: SLURM's default.
        time: time limit, ``HH:MM:SS`` or ``D-HH:MM:SS``; None: that of the partition.
        options: further options of sbatch by name, without dashes.
        modules: environment modules to load.
        venv: folder of a virtual environment.
        home: ``NNGP_HOME``, on a file system that all nodes share; None: as in the environment of ``sbatch``.
    """

    nodes: int
    gpus: int = 0
    cpus: int | None = None
    memory: str | None = None
    time: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    venv: Path | None = None
    home: Path | None = None

    def header(self) -> str:
        """Return the lines that sbatch reads."""
        tasks = max(self.gpus, 1)
        chosen: dict[str, object] = {"job-name": "nngp-prior", "nodes": self.nodes, "ntasks-per-node": tasks}
        if self.gpus:
            chosen["gpus-per-task"] = 1
        chosen |= {"cpus-per-task": self.cpus, "mem": self.memory, "time": self.time, **dict(self.options)}
        chosen |= {"signal": f"B:TERM@{_NOTICE}", "requeue": "", "open-mode": "append", "output": "%x-%j.log"}
        named = {name: str(value) for name, value in chosen.items() if value is not None}
        lines = [f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}" for name, value in named.items()]
        return "\n".join(["#!/bin/bash", *lines, "", "set -eo pipefail", ""])

    def surroundings(self) -> str:
        """Return the lines that prepare the environment."""
        lines = [f"module load {' '.join(map(shlex.quote, self.modules))}"] if self.modules else []
        if self.venv is not None:
            lines.append(f"source {shlex.quote(str(self.venv / 'bin' / 'activate'))}")
        if self.home is not None:
            lines.append(f"export NNGP_HOME={shlex.quote(str(self.home))}")
        lines += ["set -u  # scripts of others may not allow it", "started=()"]
        lines.append(': "${NNGP_HOME:?set it to a folder that all nodes share}"')
        if self.memory is not None:
            limit = int(_SHARE * _bytes(self.memory)) // max(self.gpus, 1)
            lines.append(f"export NNGP_MEMORY_LIMIT={limit}  # of each worker")
        if self.time is not None:
            lines.append(f"export NNGP_WALLTIME={self.time} NNGP_DRAIN={_NOTICE + _DRAIN}")
        return "\n".join([*lines, ""])


def script(
    batch: Batch, *, scheduler: str | None = None, service: bool = True, port: int = 8786, tls: Path | None = None
) -> str:
    """Return a batch script.

    Args:
        batch: resources and surroundings.
        scheduler: address of a scheduler elsewhere; None: one in the job.
        service: True to run the service in the job too, beside its scheduler.
        port: port of the scheduler in the job.
        tls: folder with ``ca.pem``, ``cert.pem`` and ``key.pem`` for encrypted connections.

    Returns:
        the text of the script.
    """
    parts = [batch.header(), batch.surroundings()]
    if tls is not None:
        parts.append(_TLS.format(folder=shlex.quote(str(tls))))
    if scheduler is not None:
        parts.append(f"address={shlex.quote(scheduler)}\n")
    else:
        protocol, and_service = "tcp" if tls is None else "tls", " and the service" if service else ""
        parts.append(_SCHEDULER.format(protocol=protocol, port=port, and_service=and_service))
        if service:
            parts.append(_SERVICE)
    return "\n".join([*parts, _WORKERS.format(notice=_NOTICE)])


def slurm(
    nodes: Annotated[int, typer.Option(min=1, help="number of nodes")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per node, with a worker each; 0: one worker per node")] = 0,
    cpus: Annotated[int | None, typer.Option(min=1, help="cores per worker; default: SLURM's")] = None,
    memory: Annotated[str | None, typer.Option(help="memory per node, such as 64G [SLURM's default]")] = None,
    time: Annotated[str | None, typer.Option(help="time limit, HH:MM:SS or D-HH:MM:SS [the partition's]")] = None,
    partition: Annotated[str | None, typer.Option(help="partition")] = None,
    account: Annotated[str | None, typer.Option(help="account")] = None,
    option: Annotated[list[str] | None, typer.Option(help="further option of sbatch, NAME=VALUE; repeatable")] = None,
    module: Annotated[list[str] | None, typer.Option(help="environment module to load; repeatable")] = None,
    venv: Annotated[Path | None, typer.Option(help="folder of the virtual environment to activate")] = None,
    home: Annotated[Path | None, typer.Option(help="NNGP_HOME, a folder that all nodes share [that of sbatch]")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler elsewhere: the job has workers alone")
    ] = None,
    service: Annotated[
        bool, typer.Option("--service/--no-service", help="run the service in the job, beside its scheduler")
    ] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the scheduler in the job")] = 8786,
    tls: Annotated[Path | None, typer.Option(help="folder with ca.pem, cert.pem and key.pem, to encrypt")] = None,
) -> None:
    """Print a batch script for SLURM: workers on its nodes, and on the first one a Dask scheduler and the service.

    Submit it with: nngp-prior slurm --nodes 4 --gpus 1 --time 12:00:00 --home /shared/me > job.sh; sbatch job.sh.
    Before the time limit workers put their units back, and the job is queued again. scancel ends it.

    Raises:
        InvalidInput: if a value cannot be part of a script.
    """
    pairs = [("partition", partition), ("account", account), *(_named(each) for each in option or ())]
    chosen = tuple((name, value) for name, value in pairs if value is not None)
    for name, value in (*chosen, ("memory", memory), ("time", time)):
        if value is not None and re.search(r"\s", value):
            raise InvalidInput(f"--{name}", f"got {value!r}", "Leave out spaces and line breaks.")
    if time is not None and not re.fullmatch(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", time):
        raise InvalidInput("--time", f"got {time!r}", "Write HH:MM:SS or D-HH:MM:SS.")
    if memory is not None:
        _bytes(memory)
    if scheduler is not None and not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", scheduler):
        raise InvalidInput("--scheduler", f"got {scheduler!r}", "Write an address such as tcp://login:8786.")
    batch = Batch(nodes, gpus, cpus, memory, time, chosen, tuple(module or ()), venv, home)
    typer.echo(script(batch, scheduler=scheduler, service=service, port=port, tls=tls), nl=False)


def _named(option: str) -> tuple[str, str]:
    name, _, value = option.lstrip("-").partition("=")
    if not re.fullmatch(r"[a-z][a-z-]*", name):
        raise InvalidInput("--option", f"got {option!r}", "Write NAME=VALUE as sbatch has it, such as qos=long.")
    return name, value


def _bytes(memory: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", memory)
    if found is None:
        raise InvalidInput("--memory", f"got {memory!r}", "Write a number with K, M, G or T, such as 64G.")
    return int(found[1]) * _UNITS[found[2] or "M"]
