"""PostgreSQL servers for tests, from the binaries of an installation such as Debian's; none is downloaded."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.system.server import wait_for

MISSING = "no PostgreSQL: install it (apt install postgresql), or have initdb and postgres in PATH"
_USER = "nngp"
GUARDED = "guarded"  # a user who needs a password
# Nothing waits for the disk: what is committed survives the death of the server, and need not survive a power failure.
_FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


def binaries() -> Path | None:
    """Folder of ``initdb`` and ``postgres``; the newest version of Debian's packages, else the one in ``PATH``."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return debian[-1] if debian else Path(found).resolve().parent if found else None


class Postgres:
    """Server on a Unix socket in a folder of its own; it may be stopped, killed and started again.

    The server refuses to run as root; then it runs as the user ``nobody``.

    Args:
        folder: folder of its binaries.
        **settings: settings of the server.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._binaries, self._settings = folder, _FAST | settings
        self._root = Path(tempfile.mkdtemp(prefix="nngp-postgres-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._root, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        made = [folder / "initdb", "-D", self._root / "data", "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C.UTF-8"], cwd="/", check=True, stdout=subprocess.DEVNULL, **self._as)
        access = self._root / "data" / "pg_hba.conf"
        access.write_text(f"local all {GUARDED} scram-sha-256\n{access.read_text()}")  # the first line that fits counts

    def url(self, name: str = "postgres", user: str = _USER) -> str:
        """URL of a database."""
        return f"postgresql://{user}@/{name}?host={self._root}"

    def start(self) -> Postgres:
        """Start it if it does not run, and wait until it takes connections."""
        if self._process is not None:
            return self
        settings = {"unix_socket_directories": self._root, "listen_addresses": "", **self._settings}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        command = [self._binaries / "postgres", "-D", self._root / "data", *options]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self._as)
        wait_for(self._ready, 30, self.log)
        return self

    def stop(self) -> None:
        """End all sessions and the server, as an administrator does who restarts it."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it without a checkpoint, as a crash would; the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def log(self) -> str:
        """What it wrote last."""
        return (self._root / "log").read_text(errors="replace")[-3000:]

    def create(self, template: str = "template1") -> str:
        """Create a database.

        Args:
            template: name of the database that is copied.

        Returns:
            its name.
        """
        name = f"nngp_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, statement: str, name: str = "postgres") -> list[Any]:
        """Execute a statement of an administrator, outside a transaction."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return cursor.fetchall() if cursor.description else []

    def remove(self) -> None:
        """End it, and delete its data."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._root, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False


def postgres_or_skip(**settings: Any) -> Postgres:
    """Make a server, not started; skip the test where there are no binaries."""
    folder = binaries()
    if folder is None:
        pytest.skip(MISSING)
    return Postgres(folder, **settings)
