"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says; read anew wherever it is needed.

    Attributes:
        data: ``NNGP_DATA``, the folder with ``mnist/``, ``fashion-mnist/`` and ``cifar10/``.
    """

    model_config = SettingsConfigDict(env_prefix="NNGP_", env_ignore_empty=True, extra="ignore")

    data: Path | None = None
