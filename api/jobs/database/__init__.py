"""Databases of the job table, by URL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from api.jobs.database.base import EXAMPLES, VARIABLE, Database
from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra

_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


def open_database(url: str, password_file: Path | None = None) -> Database:
    """Open the database of a URL, and create or migrate its tables.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        password_file: file with the password, instead of one in the URL.

    Returns:
        the database.

    Raises:
        InvalidInput: if the URL is invalid, or the database cannot be used.
        MissingExtra: if the extra ``postgres`` is needed and not installed.
    """
    parsed = _parsed(url)
    if parsed.drivername in _POSTGRES:
        require_extra("postgres")
        from api.jobs.database.postgres import PostgresDatabase  # only if configured

        if password_file is not None:
            parsed = parsed.set(password=_password(password_file))
        return PostgresDatabase(parsed.set(drivername="postgresql+psycopg"))
    from api.jobs.database.sqlite import SqliteDatabase

    return SqliteDatabase(parsed)


def is_shared(url: str | None) -> bool:
    """True if several services may use the database of a URL at the same time.

    Args:
        url: SQLAlchemy URL; None stands for a file in the store.

    Returns:
        False for files.

    Raises:
        InvalidInput: if the URL is invalid.
    """
    return url is not None and _parsed(url).drivername in _POSTGRES


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidInput(VARIABLE, f"cannot be parsed ({error})", EXAMPLES) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", *_POSTGRES):
        raise InvalidInput(VARIABLE, f"got a URL of {parsed.drivername!r}", EXAMPLES)
    return parsed


def _password(file: Path) -> str:
    variable = "NNGP_DATABASE_PASSWORD_FILE"
    remedy = "Write the password into it, readable by the service's user."
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(variable, f"{file} cannot be read ({error})", remedy) from None
    if not password:
        raise InvalidInput(variable, f"{file} is empty", remedy)
    return password
