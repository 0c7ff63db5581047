"""The lines of ``docs/service.md`` and of the command line, against a real server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nngp_prior import Client
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.system.server import TOKEN, Server, wait_for

PROGRAM = str(Path(sys.executable).parent / "nngp-prior")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "service.md"]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), slots=1).start()
    yield server
    server.stop()


@pytest.fixture
def environment(server: Server) -> dict[str, str]:
    return os.environ | {"URL": server.url, "TOKEN": TOKEN, "NNGP_URL": server.url, "NNGP_TOKEN": TOKEN}


def test_the_lines_of_the_page(environment: dict[str, str], server: Server) -> None:
    assert len(BLOCKS) > 5
    for block in BLOCKS:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], env=environment, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}\n{server.log()[-2000:]}"


def test_the_python_client(server: Server) -> None:
    with Client(server.url, TOKEN) as client:
        job = client.estimate(FullyConnected(), Digits(n=20), [RandomLabels(seed=i) for i in range(5)], method="ep")
        told = []
        results = job.result(progress=told.append)
        assert [result.labelling for result in results] == list(range(5))
        assert results.about["n"] == 20
        assert told
        assert client.job(job.id).result().values.tolist() == results.values.tolist()
        assert [event.type for event in job.events()][-1] == "successful"
        assert [result.value for result in job.results()] == results.values.tolist()
        assert job.id in [other.id for other in client.jobs()]


def test_the_command_line(environment: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        command = [PROGRAM, *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    (result,) = json.loads(run("estimate", "-n", "20", "--labelling", "parity", "--json"))["results"]
    assert result["status"] == "ok"
    listed = json.loads(run("jobs", "list", "--json"))["jobs"]
    environment.pop("NNGP_URL")
    assert run("jobs", "watch", listed[0]["id"][:10], "--url", environment["URL"])


def test_serve(tmp_path: Path) -> None:
    port = Server(tmp_path).port
    environment = os.environ | {"NNGP_HOME": str(tmp_path / "home")}
    command = [PROGRAM, "serve", "--port", str(port), "--slots", "1"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "curl" in line).strip()
        first = subprocess.run(
            ["bash", "-c", line.replace("curl ", "curl -fsS --retry 20 --retry-connrefused ")], timeout=60
        )
        assert first.returncode == 0
        with Client(f"http://127.0.0.1:{port}", (tmp_path / "home" / "token").read_text().strip()) as client:
            assert list(client.jobs()) == []  # asked with the token of the first start
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None, 20)
        assert process.returncode in (0, 130)
