"""What a service says that cannot start: one line that names the setting, its value and the remedy, and status 2."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api.__main__ import _Address, _Starting, listen, main
from api.files import StoreLock
from api.settings import ServerSettings

Start = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Start:
    """Starts a service, which must refuse; gives what it says beside its log."""

    def start(**settings: str) -> str:
        monkeypatch.setenv("NNGP_HOME", str(tmp_path))
        monkeypatch.setenv("NNGP_PORT", "0")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert "Traceback" not in err
        last = err.splitlines()[-1]
        assert last.startswith("error: ")
        return last

    return start


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"NNGP_PORT": "99999"}, ["NNGP_PORT", "'99999'", "65535"]),
        ({"NNGP_SLOTS": "x"}, ["NNGP_SLOTS", "'x'", "integer"]),
        ({"NNGP_HOST": "no such host"}, ["NNGP_HOST", "'no such host'", "127.0.0.1"]),
        ({"NNGP_HOST": "192.0.2.1"}, ["NNGP_HOST", "'192.0.2.1'", "this machine"]),
        ({"NNGP_HOST": "0.0.0.0", "NNGP_NO_TOKEN": "1"}, ["NNGP_NO_TOKEN", "0.0.0.0", "keep the token"]),
        ({"NNGP_TOKEN": "a", "NNGP_NO_TOKEN": "1"}, ["error: NNGP_TOKEN and NNGP_NO_TOKEN contradict each other."]),
        ({"NNGP_HOME": "/dev/null/home"}, ["NNGP_HOME", "/dev/null/home", "another folder"]),
        ({"NNGP_DATABASE_URL": "nonsense"}, ["NNGP_DATABASE_URL", "parse", "sqlite:///"]),
        ({"NNGP_DATABASE_URL": "no+driver://host"}, ["NNGP_DATABASE_URL", "no", "sqlite:///"]),
        ({"NNGP_DATABASE_URL": "sqlite:////no/such/folder/jobs"}, ["NNGP_DATABASE_URL", "unable to open"]),
    ],
    ids=range(10),
)
def test_a_setting(refused: Start, settings: dict[str, str], parts: list[str]) -> None:
    said = refused(**settings)
    assert [part for part in parts if part not in said] == []


@pytest.mark.usefixtures("without_extras")
def test_a_missing_extra(refused: Start) -> None:
    assert refused() == 'error: alembic: is not installed. Run: pip install "nngp-prior[service]"'


@pytest.mark.parametrize("content", [b"", b"\n", b"abc\xff\n", b"ab\x00c"], ids=range(4))
def test_a_damaged_token(refused: Start, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    said = refused()
    assert f"NNGP_TOKEN: {tmp_path / 'token'}" in said
    assert "a token is made again" in said


def test_a_damaged_database(refused: Start, tmp_path: Path) -> None:
    (tmp_path / "service.sqlite").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    said = refused()
    assert f"NNGP_DATABASE_URL: {tmp_path / 'service.sqlite'} is damaged" in said
    assert "Restore the file from a backup" in said


def test_a_store_that_another_service_has(refused: Start, tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    assert f"NNGP_HOME: another service uses {tmp_path}. End that one" in refused()
    lock.release()
    StoreLock(tmp_path).release()


def test_a_port_that_is_in_use(tmp_path: Path) -> None:
    """As a person sees it, who starts it by the command line."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        command = [str(Path(sys.executable).parent / "nngp-prior"), "serve", "--port", port]
        environment = os.environ | {"NNGP_HOME": str(tmp_path)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    said = f"error: NNGP_PORT: {port} is in use on 127.0.0.1. Choose another, or end what uses it.\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
    assert list(tmp_path.iterdir()) == []  # no token was made, which nobody would have been told again


def test_a_name_with_several_addresses() -> None:
    sockets = listen(ServerSettings(host="localhost", port=0))
    assert sockets
    for each in sockets:
        with each, socket.create_connection(each.getsockname()[:2], timeout=5):
            pass


def test_small_answers_are_sent_at_once() -> None:
    """asyncio switches Nagle's algorithm off for sockets that say that they are TCP's, and for no others."""
    sockets = listen(ServerSettings(port=0))
    try:
        assert {each.proto for each in sockets} == {socket.IPPROTO_TCP}
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_address_is_in_the_home_while_the_service_runs(tmp_path: Path, host: str) -> None:
    seen = []

    async def app(scope, receive, send) -> None:
        for event in ("startup", "shutdown"):
            await send({"type": f"lifespan.{event}.complete"})
            seen.append([path.read_text() for path in tmp_path.iterdir()])

    async def send(message) -> None:
        del message

    with socket.create_server((host, 0)) as listening:
        address = _Address(ServerSettings(home=tmp_path), [listening])
        asyncio.run(_Starting(app, address)({"type": "lifespan"}, send, send))  # pyright: ignore[reportArgumentType]
        port = listening.getsockname()[1]
    assert seen == [[f"http://127.0.0.1:{port}\n"], []]
