"""The lines of ``docs/service.md`` and of the command line, against a real server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from nngp_prior import Client
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.api.apps import WAIT
from tests.system.server import Server, wait_for

PROGRAM = str(Path(sys.executable).parent / "nngp-prior")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "service.md"]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@dataclass(frozen=True)
class Served:
    """A service that the command line started in a new home."""

    url: str
    home: Path
    said: str
    process: psutil.Process

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    @property
    def processes(self) -> list[psutil.Process]:
        """The command, the service and the computing processes."""
        return [self.process, *self.process.children(recursive=True)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("serve") / "home"
    port, log = Server(home).port, home.parent / "stderr"
    command = [PROGRAM, "serve", "--port", str(port), "--slots", "1"]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env=os.environ | {"NNGP_HOME": str(home)}, stderr=file) as process,
    ):
        wait_for(lambda: "curl" in log.read_text(), 60, log.read_text)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: (home / "url").exists(), 60, log.read_text)
        yield Served(url, home, log.read_text(), psutil.Process(process.pid))
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None, 20)
    assert process.returncode in (0, 130)
    assert "Traceback" not in log.read_text()
    assert not (home / "url").exists()


@pytest.fixture
def environment(served: Served) -> dict[str, str]:
    names = {"URL": served.url, "TOKEN": served.token}
    return os.environ | names | {f"NNGP_{name}": value for name, value in names.items()}


def test_first_start_says_how_to_ask_with_the_token(served: Served) -> None:
    line = next(line for line in served.said.splitlines() if "curl" in line).strip()
    asked = subprocess.run(["bash", "-c", line.replace("curl ", "curl -fsS ")], capture_output=True, timeout=60)
    assert asked.returncode == 0, asked.stderr


@pytest.mark.slow
def test_the_lines_of_the_page(environment: dict[str, str], served: Served) -> None:
    assert len(BLOCKS) > 5
    for block in BLOCKS:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], env=environment, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}\n{served.said}"


def test_the_service_itself_never_loads_jax(served: Served) -> None:
    """It plans and answers; JAX is for its computing processes."""
    with httpx2.Client(base_url=served.url, headers={"Authorization": f"Bearer {served.token}"}, timeout=60) as http:
        labellings = [{"kind": "parity"}, {"kind": "random"}]
        given = {"dataset": {"kind": "digits", "n": 20}}
        assert http.post("/v1/labellings", json={**given, "labellings": labellings}).status_code == 201
        for work, more in {
            "estimates": {"labellings": labellings},
            "bounds": {"labellings": labellings, "sizes": [10]},
            "posteriors": {"labellings": labellings, "train": 10},
            "selections": {"labelling": labellings[0], "train": 10},
            "samples": {"source": "gp"},
            "kernels": {},
        }.items():
            network = {"kind": "residual"}
            networks = {"family": [network]} if work == "selections" else {"architecture": network}
            body = {**given, **networks, **more}
            assert http.post(f"/v1/{work}?dry_run=true", json=body).status_code == 200
        assert http.post("/v1/estimates", json={**given, "labellings": labellings}, headers=WAIT).status_code == 200
        for path in ("/v1/catalogue", "/v1/kernels", "/metrics", "/openapi.json", "/docs", "/readyz"):
            assert http.get(path).status_code == 200
    computing = {process: "api.executors.child" in process.cmdline() for process in served.processes}
    assert set(computing.values()) == {False, True}
    for process, computes in computing.items():
        assert any("jaxlib" in mapped.path for mapped in process.memory_maps()) is computes


def test_the_python_client(served: Served) -> None:
    with Client(served.url, served.token) as client:
        job = client.estimate(FullyConnected(), Digits(n=20), [RandomLabels(seed=i) for i in range(5)], method="ep")
        events = []
        results = job.result(progress=events.append)
        assert [result.labelling for result in results] == list(range(5))
        assert results.about["n"] == 20
        assert events
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
    with Client(environment["URL"], environment["TOKEN"]) as client:
        latest = next(iter(client.jobs()))
    environment.pop("NNGP_URL")
    assert run("jobs", "watch", latest.id[:10], "--url", environment["URL"])
