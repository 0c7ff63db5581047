"""PostgreSQL: restarts of the server, several services, concurrent migrations."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from api.jobs.database import is_shared, open_database
from api.jobs.table import JobTable
from api.problems import DatabaseUnavailable
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.job_names import JobEdit
from tests.api.apps import client, problem, request
from tests.api.jobs.tables import POSTGRES, ROOM, claim, done, results, submit
from tests.postgres import GUARDED, Postgres, postgres_or_skip
from tests.system.server import wait_for


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    server = postgres_or_skip()
    yield server
    server.remove()


@pytest.fixture
def server(own: Postgres) -> Postgres:
    """A server that the test may stop."""
    return own.start()


def test_which_databases_are_shared() -> None:
    assert is_shared("postgresql://user@host/name")
    assert is_shared("postgres://host")
    assert not is_shared("sqlite:////folder/file")
    assert not is_shared(None)
    for wrong in ("mysql://host/name", "postgresql+psycopg2://host/name", "nonsense"):
        with pytest.raises(InvalidInput, match=r"NNGP_DATABASE_URL: .*postgresql://user@host/name"):
            is_shared(wrong)


@pytest.mark.usefixtures("without_extras")
def test_the_missing_extra_is_named() -> None:
    with pytest.raises(Exception, match=r'psycopg: is not installed. Run: pip install "nngp-prior\[postgres\]"'):
        open_database("postgresql://host/name")


def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    with pytest.raises(InvalidInput, match=r"NNGP_DATABASE_PASSWORD_FILE: .* cannot be read"):
        open_database("postgresql://host/name", secret)
    secret.write_text("hidden\n")
    with pytest.raises(InvalidInput, match=r"NNGP_DATABASE_URL: cannot be used \(.*No such file") as caught:
        open_database(f"postgresql://nngp@/name?host={tmp_path}", secret)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_password_of_a_file(postgres: Postgres, tmp_path: Path) -> None:
    name, secret = postgres.create(), tmp_path / "password"
    postgres.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'p@ss/word'")
    postgres.execute(f"ALTER DATABASE {name} OWNER TO {GUARDED}")
    secret.write_text("wrong")
    with pytest.raises(InvalidInput, match=r"cannot be used \(.*password authentication failed"):
        open_database(postgres.url(name, GUARDED), secret)
    secret.write_text("p@ss/word\n")
    open_database(postgres.url(name, GUARDED), secret).close()


@POSTGRES
def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        tables = list(pool.map(lambda _: JobTable(url), range(6)))
    assert [submit(table, f"{i}", 1) for i, table in enumerate(tables)] == [True] * 6
    for table in tables:
        table.close()


@POSTGRES
def test_a_reader_sees_one_state(table: JobTable) -> None:
    submit(table, "a", 1)
    counted = text("SELECT count(*) FROM jobs")
    with table.database.read() as connection:
        before = connection.execute(counted).scalar_one()
        submit(table, "b", 1)
        assert connection.execute(counted).scalar_one() == before == 1


@POSTGRES
def test_changes_by_other_services_are_heard(table: JobTable, url: str) -> None:
    other, heard, here = JobTable(url), [], []
    table.listen_elsewhere(heard.append)
    table.listen(here.append)
    table.follow()
    wait_for(lambda: heard == [None], 10)
    submit(table, "mine", 1)
    submit(other, "theirs", 1)
    other.dismiss("mine")
    wait_for(lambda: heard[-1] == "mine", 10)
    assert (heard, here) == ([None, "theirs", "mine"], ["mine"])
    other.close()


@POSTGRES
def test_leases_end_by_the_clock_of_the_database(url: str) -> None:
    """Each service has another monotonic clock."""
    first, second = (JobTable(url, lease_seconds=0.3) for _ in range(2))
    submit(first, "a", 2)
    lease = claim(first)
    assert second.expire() == 0
    time.sleep(0.4)
    assert second.expire() == 1
    assert not first.record(lease, results([0]))
    assert claim(second).rows == (0, 1)
    for table in (first, second):
        table.close()


@POSTGRES
def test_services_share_a_folder_and_have_the_same_versions(table: JobTable, url: str) -> None:
    other = JobTable(url)
    table.join("versions", "folder")
    other.join("versions", "folder")
    submit(table, "a", 1, 1)
    assert {claim(table).job, claim(other).job} == {"a"}
    with pytest.raises(InvalidInput, match="NNGP_HOME: the services of this database have their uploads"):
        other.join("versions", "another folder")
    other.join("newer versions", "folder")
    submit(other, "b", 1)
    for refused in (lambda: submit(table, "c", 1), lambda: claim(table)):
        with pytest.raises(DatabaseUnavailable, match="Services of other versions"):
            refused()
    assert (table.taken, claim(other).job) == (True, "b")
    other.close()


@POSTGRES
@pytest.mark.parametrize("end", ["a session", "the server"])
def test_a_lost_server_has_a_name_and_nothing_is_half_written(url: str, server: Postgres, end: str) -> None:
    name = server.create()
    table = JobTable(server.url(name))
    submit(table, "a", 2)
    lease = claim(table)

    def broken() -> None:
        with table.database.write() as connection:
            connection.execute(text("DELETE FROM tags"))
            if end == "the server":
                server.kill()
            else:
                server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            connection.execute(text("SELECT 1"))

    table.edit("a", JobEdit(add_tags=("kept",)))
    with pytest.raises(DatabaseUnavailable):
        broken()
    if end == "the server":
        for call in (lambda: table.get("a"), lambda: table.record(lease, results([0])), lambda: submit(table, "b", 1)):
            with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
                call()
        assert not table.database.reachable()
        server.start()
    assert table.database.reachable()
    assert table.record(lease, results([0, 1]))
    assert done(table, "a") == [0, 1]
    assert [job.id for job in table.list(tags=["kept"])[0]] == ["a"]
    assert table.claim("worker", 1, ROOM) is None
    table.close()


def test_a_service_outlives_its_database(server: Postgres, tmp_path: Path) -> None:
    """Requests get 503 with Retry-After, accepted jobs end, waiting requests are answered."""
    with client(tmp_path, database_url=server.url(server.create())) as api:
        executor = api.app.state.service.executor  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
        executor.go_on.clear()
        body = request(1, *[{"kind": "random", "seed": i} for i in range(3)])
        location = api.post("/v1/estimates", json=body).headers["location"]
        wait_for(lambda: api.get(location).json()["state"] == "running", 10)
        server.stop()
        executor.go_on.set()
        for answer in (api.post("/v1/estimates", json=request(2)), api.get(location), api.get("/v1/jobs")):
            problem(answer, 503, "database-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["retryable"]
        page = api.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, "database cannot be used now" in page.text) == (503, True)
        assert "database" in str(problem(api.get("/readyz"), 503, "not-ready")["errors"])
        assert api.get("/healthz").status_code == 200
        server.start()
        wait_for(lambda: api.get(location).json().get("state") == "successful", 30)
        assert [row["labelling"] for row in api.get(f"{location}/results").json()["results"]] == [0, 1, 2]
        assert api.get(location).json()["losses"] == 0
        assert api.post("/v1/estimates", json=request(2), headers={"Prefer": "wait=30"}).status_code == 200


@POSTGRES
def test_a_suspended_writer_does_not_block_others_for_long(table: JobTable) -> None:
    with table.database.read() as connection:
        for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == "30s"
    submit(table, "a", 1)
    held, ended = threading.Event(), threading.Event()

    def stand_still() -> None:
        with table.database.engine.begin() as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '200ms'"))
            connection.execute(text("SELECT last FROM tickets FOR UPDATE"))
            held.set()
            ended.wait(10)

    with ThreadPoolExecutor(1) as pool:
        standing = pool.submit(stand_still)
        assert held.wait(10)
        assert table.dismiss("a") is not None
        ended.set()
        assert standing.exception() is not None
