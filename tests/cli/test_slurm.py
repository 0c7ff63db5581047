"""``nngp-prior slurm``: the script's options, and the script run for real with stand-ins for SLURM's programs."""

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from nngp_prior.cli import app
from nngp_prior.errors import InvalidInput
from tests.system.server import free_port, wait_for

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "nodes": "4",
    "gpus": "2",
    "cpus": "8",
    "memory": "64G",
    "time": "1-12:00:00",
    "partition": "gpu",
    "account": "theory",
    "option": "qos=long",
    "module": "cuda/12",
    "venv": "/shared/my env",
    "home": "/shared/it's",
}
# A step has two tasks; signals reach it by scancel, as on a cluster.
SRUN = """
[ "$1" = --kill-on-bad-exit=0 ] && shift
for task in 1 2; do "$@" & echo $! >> "$FAKE/tasks"; done
wait
"""
SCANCEL = '[ "$*" = "--signal=TERM 7" ] && xargs kill -TERM < "$FAKE/tasks"'
SCONTROL = """
case "$*" in
  "show hostnames nodes") echo 127.0.0.1; echo another ;;
  "requeue 7") touch "$FAKE/requeued" ;;
  *) exit 3 ;;
esac
"""


def printed(*words: str) -> str:
    return CliRunner().invoke(app, ["slurm", *words], catch_exceptions=False).stdout


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def parsed(script: str) -> None:
    """Bash understands it."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def header(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def test_options_of_sbatch() -> None:
    script = printed(*words(OPTIONS))
    parsed(script)
    assert header(script) == {
        "job-name": "nngp-prior", "nodes": "4", "ntasks-per-node": "2", "gpus-per-task": "1", "cpus-per-task": "8",
        "mem": "64G", "time": "1-12:00:00", "partition": "gpu", "account": "theory", "qos": "long",
        "signal": "B:TERM@120", "requeue": "", "open-mode": "append", "output": "%x-%j.log",
    }  # fmt: skip
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {
        "module load cuda/12",
        "source '/shared/my env/bin/activate'",
        "export NNGP_WALLTIME=1-12:00:00 NNGP_DRAIN=180",
    } <= set(lines)
    assert f"export NNGP_HOME={shlex.quote(OPTIONS['home'])}" in lines
    assert f"export NNGP_MEMORY_LIMIT={64 * 2**30 * 8 // 10 // 2}  # of each worker" in lines  # two workers a node


def test_defaults() -> None:
    script = printed()
    parsed(script)
    assert {"mem", "time", "gpus-per-task", "partition"}.isdisjoint(header(script))
    assert "NNGP_MEMORY_LIMIT" not in script
    ended = subprocess.run(
        ["bash"], input=script, text=True, env={"PATH": os.defpath}, capture_output=True, check=False
    )
    assert ended.returncode != 0
    assert "NNGP_HOME: set it to a folder that all nodes share" in ended.stderr


def test_what_runs_in_the_job() -> None:
    all_, without, workers = printed(), printed("--no-service"), printed("--scheduler", "tcp://login:8786")
    started = [
        [name for name in ("dask scheduler", "nngp-prior serve", "srun") if name in each]
        for each in (all_, without, workers)
    ]
    assert started == [["dask scheduler", "nngp-prior serve", "srun"], ["dask scheduler", "srun"], ["srun"]]
    assert "address=tcp://login:8786\n" in workers
    encrypted = printed("--tls", "/my certificates", "--port", "9000")
    parsed(encrypted)
    assert "tls='/my certificates'" in encrypted
    assert "dask scheduler --protocol tls --port 9000" in encrypted


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--time", "soon"), ("--time", "60"), ("--memory", "much"), ("--partition", "a b"), ("--account", "a\n#SBATCH"),
        ("--option", "A=1"), ("--option", "qos=a b"), ("--scheduler", "login:8786"), ("--scheduler", "tcp://a:1; true"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_in_a_script(option: str, value: str) -> None:
    with pytest.raises(InvalidInput, match="got "):
        printed(option, value)


class Job:
    """The script as a batch job on one machine; run again, it is the job after it was queued again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.token = "a-token-for-tests"
        self.script = folder / "job.sh"
        self.script.write_text(printed("--nodes", "2", "--home", str(folder / "home"), "--port", str(free_port())))
        (folder / "bin").mkdir()
        for name, content in (("srun", SRUN), ("scancel", SCANCEL), ("scontrol", SCONTROL)):
            path = folder / "bin" / name
            path.write_text(f"#!/bin/bash\n{content}")
            path.chmod(0o700)

    def start(self) -> "subprocess.Popen[bytes]":
        (self.folder / "tasks").unlink(missing_ok=True)
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        settings = {"PORT": self.port, "TOKEN": self.token, "SLOTS": 1, "LEASE_SECONDS": 3}
        environment = {
            **os.environ,
            **{f"NNGP_{name}": str(value) for name, value in settings.items()},
            **{"PATH": path, "PYTHONPATH": str(ROOT), "FAKE": str(self.folder)},
            **{"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "nodes"},
        }
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(["bash", self.script], env=environment, stdout=log, stderr=log)

    def tasks(self) -> list[int]:
        file = self.folder / "tasks"
        return [int(task) for task in file.read_text().split()] if file.exists() else []

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-5000:]

    def http(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60, trust_env=False
        ) as http:
            try:
                return http.request(method, path, **options)
            except httpx2.TransportError:
                return None

    def ready(self) -> bool:
        answer = self.http("GET", "/readyz")
        return answer is not None and answer.status_code == 200


@pytest.mark.slow
def test_a_job_ends_before_its_walltime_and_continues_when_it_is_queued_again(tmp_path: Path) -> None:
    job = Job(tmp_path)
    request = {
        "dataset": {"kind": "digits", "n": 100},
        "labellings": [{"kind": "random", "seed": seed} for seed in range(400)],
    }
    running = job.start()
    try:
        wait_for(job.ready, 120, job.log)
        location = job.http("POST", "/v1/estimates", json=request).headers["location"]
        wait_for(lambda: job.http("GET", location).json()["progress"]["current"] >= 5, 120, job.log)
        running.send_signal(signal.SIGTERM)  # as SLURM does, to the batch script alone
        assert running.wait(60) == 0
        assert (tmp_path / "requeued").exists(), job.log()
        assert job.http("GET", "/healthz") is None  # nothing is left
        running = job.start()
        wait_for(job.ready, 120, job.log)
        before = job.http("GET", location).json()
        assert (before["losses"], before["attempt"]) == (0, 1)
        assert 5 <= before["progress"]["current"] < 400
        wait_for(lambda: job.http("GET", location).json()["state"] == "successful", 300, job.log)
        assert job.http("GET", location).json()["losses"] == 0
        (tmp_path / "requeued").unlink()
        for task in job.tasks():  # as a person's scancel does
            os.kill(task, signal.SIGTERM)
        running.wait(60)
        assert not (tmp_path / "requeued").exists()
    finally:
        running.kill()
        for task in job.tasks():
            with suppress(ProcessLookupError):
                os.kill(task, signal.SIGKILL)
