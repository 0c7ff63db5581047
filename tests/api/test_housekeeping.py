"""What is cleared away."""

import os
import threading
from pathlib import Path

from structlog.testing import capture_logs

from api.housekeeping import Housekeeping
from nngp_prior.numerics.whole_files import trim
from tests.api.apps import client
from tests.system.server import wait_for


def test_chores_are_done_to_their_end_again_and_again_whatever_fails() -> None:
    parts, times, again = [3, 2, 0], [], threading.Event()

    def fails() -> int:
        raise OSError("no")

    def in_parts() -> int:
        return parts.pop(0) if parts else 0

    def counts() -> None:
        times.append(len(parts))
        if len(times) > 1:
            again.set()

    with capture_logs() as logged:
        housekeeping = Housekeeping(fails, in_parts, counts, seconds=0.01)
        housekeeping.start()
        assert again.wait(10)
        housekeeping.stop()
    assert times[0] == 0
    assert logged[0]["event"] == "housekeeping failed"


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    for age in range(5):
        path = tmp_path / f"file{age}"
        path.write_bytes(bytes(100))
        os.utime(path, (1_000 - age, 1_000 - age))
    trim(tmp_path, 500)
    assert len(list(tmp_path.iterdir())) == 5
    trim(tmp_path, 250, keep=tmp_path / "file4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file0", "file4"]


def test_the_service_forgets_old_jobs_and_what_was_compiled(tmp_path: Path) -> None:
    request = {"dataset": {"kind": "digits", "n": 5}, "labellings": [{"kind": "constant"}]}
    with client(tmp_path) as api:
        api.post("/v1/estimates", json=request, headers={"Prefer": "wait=30"})
        assert len(api.get("/v1/jobs").json()["jobs"]) == 1
    with (tmp_path / "xla" / "large").open("wb") as file:
        file.truncate(2 * 10**9)
    with client(tmp_path, job_days=1e-9) as api:
        wait_for(lambda: api.get("/v1/jobs").json()["jobs"] == [], 10)
        wait_for(lambda: not (tmp_path / "xla" / "large").exists(), 10)
