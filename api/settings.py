"""Settings of the service, read from the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode

from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.base import explain_one
from nngp_prior.settings import Settings

_MIB = 2**20
S = TypeVar("S", bound=Settings)


class MachineSettings(Settings):
    """Environment variables of a machine that computes, in addition to those of the library.

    Attributes:
        slots: ``NNGP_SLOTS``, number of computing processes; default: number of cores, or 1 with a GPU.
        memory_limit: ``NNGP_MEMORY_LIMIT``, bytes of these processes together; default: four fifths of the memory.
        dask_address: ``NNGP_DASK_ADDRESS``, address of a Dask scheduler such as ``tcp://login:8786``, whose workers
            compute; default: this machine computes.
        log_level: ``NNGP_LOG_LEVEL``, lowest level that is logged; ``debug`` includes one line per request.
    """

    slots: Annotated[int, Field(ge=1)] | None = None
    memory_limit: Annotated[int, Field(ge=1)] | None = None
    dask_address: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ServerSettings(MachineSettings):
    """Environment variables of the service.

    Attributes:
        host: ``NNGP_HOST``, address to listen on.
        port: ``NNGP_PORT``, port to listen on.
        token: ``NNGP_TOKEN``, token required in every request; default: generated, in the file ``token`` under
            ``NNGP_HOME``.
        token_file: ``NNGP_TOKEN_FILE``, file with the token, such as a container's secret, instead of ``token``.
        no_token: ``NNGP_NO_TOKEN``, require no token; on loopback only.
        allowed_hosts: ``NNGP_ALLOWED_HOSTS``, comma-separated host names accepted besides loopback's and ``host``.
        trusted_proxies: ``NNGP_TRUSTED_PROXIES``, comma-separated addresses of proxies whose ``X-Forwarded-For`` and
            ``X-Forwarded-Proto`` are trusted.
        max_connections: ``NNGP_MAX_CONNECTIONS``, at most half of the file descriptors.
        header_timeout: ``NNGP_HEADER_TIMEOUT``, seconds within which a connection must send a request's header.
        database_url: ``NNGP_DATABASE_URL``, URL of the job table; default: ``service.sqlite`` under ``NNGP_HOME``.
        database_password_file: ``NNGP_DATABASE_PASSWORD_FILE``, file with the password of the database, such as a
            container's secret, instead of a password in the URL.
        max_body_bytes: ``NNGP_MAX_BODY_BYTES``, size of a JSON body.
        max_body_values: ``NNGP_MAX_BODY_VALUES``, numbers, strings, lists and objects in a JSON body.
        max_blob_bytes: ``NNGP_MAX_BLOB_BYTES``, size of an uploaded array.
        blob_quota_bytes: ``NNGP_BLOB_QUOTA_BYTES``, size of all uploaded arrays together.
        max_rows: ``NNGP_MAX_ROWS``, labellings per request.
        queue_limit: ``NNGP_QUEUE_LIMIT``, waiting and running jobs.
        task_seconds: ``NNGP_TASK_SECONDS``, time limit of one unit of work, after which its process is killed.
        lease_seconds: ``NNGP_LEASE_SECONDS``, time without a sign of life after which a worker counts as dead.
        job_days: ``NNGP_JOB_DAYS``, days that a job and its results are kept after its end; ``inf``: forever.
        min_free_disk: ``NNGP_MIN_FREE_DISK``, bytes of the disk to leave free.
        body_timeout: ``NNGP_BODY_TIMEOUT``, seconds within which a JSON body must arrive, and between two parts of an
            uploaded array.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    token: Annotated[SecretStr, Field(min_length=1)] | None = None
    token_file: Path | None = None
    no_token: bool = False
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    max_connections: Annotated[int, Field(ge=1)] = 500
    header_timeout: Annotated[float, Field(gt=0)] = 10.0
    database_url: Annotated[str | None, Field(repr=False)] = None  # may have a password
    database_password_file: Path | None = None
    max_body_bytes: Annotated[int, Field(ge=1)] = 8 * _MIB
    max_body_values: Annotated[int, Field(ge=1)] = 500_000
    max_blob_bytes: Annotated[int, Field(ge=1)] = 4 * 1024 * _MIB
    blob_quota_bytes: Annotated[int, Field(ge=0)] = 20 * 1024 * _MIB
    max_rows: Annotated[int, Field(ge=1)] = 100_000
    queue_limit: Annotated[int, Field(ge=1)] = 2_000
    task_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    lease_seconds: Annotated[float, Field(gt=0)] = 15.0
    job_days: Annotated[float, Field(gt=0)] = 90.0
    min_free_disk: Annotated[int, Field(ge=0)] = 256 * _MIB
    body_timeout: Annotated[float, Field(gt=0)] = 30.0

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @model_validator(mode="after")
    def _one_token_and_without_it_only_loopback(self) -> ServerSettings:
        given = {"NNGP_TOKEN": self.token, "NNGP_TOKEN_FILE": self.token_file, "NNGP_NO_TOKEN": self.no_token or None}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} contradict each other. Set one of them.")
        if self.no_token and not is_loopback(self.host):
            raise ValueError(
                f"NNGP_NO_TOKEN: whoever reaches {self.host} could use the service. Set NNGP_HOST=127.0.0.1, or "
                "keep the token."
            )
        return self


def read_settings(kind: type[S]) -> S:
    """Read settings from the environment.

    Args:
        kind: class of the settings.

    Returns:
        the settings.

    Raises:
        NngpPriorError: if one of them is invalid; the message names its environment variable.
    """
    try:
        return kind()
    except ValidationError as error:
        problem = error.errors()[0]
        if not problem["loc"]:  # an error of several settings together, which the message names
            raise NngpPriorError(problem["msg"].removeprefix("Value error, ")) from None
        name = f"NNGP_{problem['loc'][0]}".upper()
        refused = explain_one({**problem, "loc": (name,)})
        raise refused from None


def is_loopback(host: str) -> bool:
    """True if an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
