"""Full disks and damaged files: what is lost has a name, and nothing is half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from api.jobs.models import State
from api.jobs.table import JobTable
from api.problems import DamagedStore, StorageFull
from nngp_prior.errors import InvalidInput, ResourceLimit
from tests.api.jobs.tables import (
    ROOM,
    SQLITE,
    Clock,
    claim,
    done,
    everything,
    plan,
    results,
    submit,
)

pytestmark = SQLITE


def _fill(table: JobTable) -> None:
    with table.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    table.database.close()  # connections that are made from now on have the limit

    def limit(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages + 1}").close()

    event.listen(table.database.engine, "connect", limit)


def test_a_full_disk_has_a_name_and_nothing_is_half_written(table: JobTable, url: str, clock: Clock) -> None:
    submit(table, "a", 400)
    lease = claim(table)
    table.record(lease, results([0]))
    _fill(table)
    before, heard = everything(table), []
    table.listen(heard.append)
    large = [(row, {"labelling": row, "text": "x" * 1000}) for row in range(1, 400)]
    with pytest.raises(StorageFull, match="Free some space"):
        table.record(lease, large)
    with pytest.raises(ResourceLimit):
        table.submit("b", "estimates", {"x": "x" * 100_000}, plan(1))
    assert everything(table) == before
    assert heard == []
    assert table.heartbeat([lease]) == {lease.unit}  # what needs no room goes on
    table.put_back(lease, "no room")
    again = JobTable(url, clock=clock, steady=clock)  # with room
    lease = claim(again)
    assert lease.rows == tuple(range(1, 400))
    assert again.record(lease, large)
    job = again.get("a")
    assert job is not None
    assert job.state == State.SUCCESSFUL
    again.close()


def test_other_errors_of_the_database_keep_their_names(table: JobTable) -> None:
    with pytest.raises(IntegrityError), table.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO results VALUES (7, 0, '{}')")  # of no job: foreign keys are on


def flipped(table: JobTable, column: str, place: int = -5) -> None:
    """Flip one bit of the first stored value of a column."""
    name, _, of = column.partition(".")
    with table.database.write() as connection:
        key, found = connection.exec_driver_sql(f"SELECT rowid, CAST({of} AS BLOB) FROM {name} LIMIT 1").one()
        content = bytearray(found)
        content[place] ^= 1
        connection.exec_driver_sql(f"UPDATE {name} SET {of} = CAST(? AS TEXT) WHERE rowid = ?", (bytes(content), key))


def test_a_damaged_result_has_no_number_and_is_computed_again(table: JobTable) -> None:
    submit(table, "a", 2)
    table.record(claim(table), [(0, {"labelling": 0, "log_p": -1.25}), (1, {"labelling": 1, "log_p": -3.5})])
    flipped(table, "results.data")
    (_, lost), (_, kept) = table.results("a")
    assert (lost["status"], lost["log_p"], kept["log_p"]) == ("damaged", None, -3.5)
    assert list(table.results("a", [0])) == [(0, lost)]
    assert submit(table, "a", 2)
    lease = claim(table)
    assert lease.rows == (0,)
    table.record(lease, [(0, {"labelling": 0, "log_p": -1.25})])
    assert [row["log_p"] for _, row in table.results("a")] == [-1.25, -3.5]
    job = table.get("a")
    assert job is not None
    assert (job.state, job.done, job.given_up) == (State.SUCCESSFUL, 2, 0)


@pytest.mark.parametrize("column", ["jobs.request", "units.rows"])
@pytest.mark.parametrize("running", [False, True], ids=["waiting", "running"])
def test_a_job_whose_request_is_damaged_fails_and_the_next_goes_on(table: JobTable, column: str, running: bool) -> None:
    submit(table, "a", 2)
    submit(table, "b", 1)
    if running:
        claim(table)
    flipped(table, column)
    if running:
        table.reclaim()
    assert claim(table).job == "b"
    assert table.claim("worker", 1, ROOM) is None
    job = table.get("a")
    assert job is not None
    assert job.error is not None
    assert (job.state, job.error["code"]) == (State.FAILED, "damaged-store")
    assert submit(table, "a", 2)
    assert (claim(table).request, table.request("a")[0]) == ({"name": "a"}, {"name": "a"})


@pytest.mark.parametrize("column", ["jobs.request", "jobs.facts"])
def test_results_of_a_damaged_request_are_refused_until_it_is_submitted_again(table: JobTable, column: str) -> None:
    submit(table, "a", 1)
    table.record(claim(table), results([0]))
    flipped(table, column)
    with pytest.raises(DamagedStore, match="Post it again"):
        table.request("a")
    assert submit(table, "a", 1)
    assert table.request("a") == ({"name": "a"}, {"n": 3})
    assert (done(table, "a"), table.counts()["units_waiting"]) == ([0], 0)


def test_what_is_not_needed_may_be_damaged(table: JobTable) -> None:
    table.submit("a", "estimates", {}, plan(1), summary={"n": 3})
    flipped(table, "jobs.summary")
    flipped(table, "events.data", 2)
    job = table.get("a")
    assert job is not None
    assert (job.summary, table.events("a")) == (None, [])


@pytest.mark.parametrize("where", ["magic", "page", "index", "schema", "cut off"])
def test_a_damaged_database_is_refused_in_one_line(tmp_path: Path, where: str, url: str) -> None:
    table = JobTable(url)
    for i in range(30):
        submit(table, f"{i:064}", 1)
    with table.database.read() as connection:
        root = connection.execute(text("SELECT rootpage FROM sqlite_master WHERE name = 'ix_jobs_id'")).scalar_one()
    table.close()
    path = tmp_path / "jobs.sqlite"
    content = bytearray(path.read_bytes())
    places = {"magic": 3, "schema": content.index(b"place BIGINT")}
    match where:
        case "magic" | "schema":
            content[places[where]] ^= 1
        case "page":
            content[len(content) - 4096 :] = bytes(4096)
        case "index":
            content[content.index(b"0" * 62 + b"17", 4096 * (root - 1)) + 63] ^= 1
        case "cut off":
            del content[-5000:]
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"NNGP_DATABASE_URL: .*jobs.sqlite is damaged") as caught:
        JobTable(url)
    assert "\n" not in str(caught.value)


def test_a_page_that_is_damaged_while_the_service_runs_has_a_name(table: JobTable, tmp_path: Path, url: str) -> None:
    for i in range(300):
        submit(table, f"{i:064}", 1)
    path = tmp_path / "jobs.sqlite"
    again = JobTable(url)
    assert not again.database.damaged
    table.close()
    again.close()  # its connections; the next call opens others
    content = path.read_bytes()
    path.write_bytes(content[:8192] + bytes(len(content) - 8192))
    with pytest.raises(DamagedStore, match="The table of jobs is damaged"):
        again.list(limit=500)
    assert again.database.damaged
    again.close()
