"""Settings from the environment."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, PrivateAttr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ADDRESS = "url"  # file in NNGP_HOME with the address of the service that runs there


class Settings(BaseSettings):
    """Settings from environment variables, read anew at each use.

    Attributes:
        home: ``NNGP_HOME``, the folder of the kernel cache and other stored files; default: the platform's folder for
            user data.
        data: ``NNGP_DATA``, the folder with ``mnist/``, ``fashion-mnist/`` and ``cifar10/``.
        shared: ``NNGP_SHARED``, folder of arrays for workers of executors, who reach it by the same path; default: the
            system's folder of temporary files.
        cache_bytes: ``NNGP_CACHE_BYTES``, maximum size of the kernel cache; 0 disables it.
    """

    model_config = SettingsConfigDict(env_prefix="NNGP_", env_ignore_empty=True, extra="ignore")

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("nngp-prior", appauthor=False))
    data: Path | None = None
    shared: Path | None = None
    cache_bytes: Annotated[int, Field(ge=0)] = 10 * 10**9


class ClientSettings(Settings):
    """Address and token of the service.

    Attributes:
        url: ``NNGP_URL``; default: the file ``url`` in ``NNGP_HOME``, where a service on this machine keeps its address
            while it runs, and without that http://127.0.0.1:8000.
        token: ``NNGP_TOKEN``; default: the file ``token`` in ``NNGP_HOME``, where a service on this machine keeps its
            own, if it is readable.
    """

    url: str = ""
    token: str | None = None
    _address_file: Path | None = PrivateAttr(None)

    @property
    def address_file(self) -> Path | None:
        """File that contains ``url``; None if it is not from a file."""
        return self._address_file

    @model_validator(mode="after")
    def _those_of_this_machine(self) -> ClientSettings:
        self.token = self.token or self._kept("token")
        if not self.url and (kept := self._kept(ADDRESS)):
            self.url, self._address_file = kept, self.home / ADDRESS
        self.url = self.url or "http://127.0.0.1:8000"
        return self

    def _kept(self, name: str) -> str | None:
        """Return the content of a small file in ``NNGP_HOME``; None if there is none."""
        with contextlib.suppress(OSError, UnicodeError):
            return (self.home / name).read_text(encoding="utf-8").strip() or None
        return None
