"""The job table against a model, with crashes of the server between any two statements.

A crash copies the files of the database as they are at that moment, and goes on with a table opened on the copy: what
the dead process had not committed is undone by SQLite's recovery, not by a rollback of ours. On PostgreSQL a crash ends
the sessions of the dead process, whose transactions the server rolls back.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import RowMapping, create_engine, event, make_url, text

from api.jobs.models import Lease
from api.jobs.row_ranges import rows_of
from api.jobs.table import JobTable
from api.problems import DatabaseUnavailable
from api.seals import unsealed
from tests.api.jobs.model import ALL_CORES, CORES, SHAPES, Model
from tests.api.jobs.tables import LEASE, ROOM, Clock, plan, results, sqlite_url
from tests.postgres import Postgres

T = TypeVar("T")
BEFORE_COMMIT, AFTER_COMMIT = "before commit", "after commit"
NAMES = st.sampled_from(sorted(SHAPES))
CRASHES = st.sampled_from([*[None] * 18, *range(1, 12), BEFORE_COMMIT, AFTER_COMMIT])  # at which statement
STEPS = [
    *["claim"] * 6,
    "submit",
    "submit",
    *["record all"] * 2,
    "record first",
    "record last",
    *["lose"] * 5,
    "finish",
]
STEPS += [
    "put back",
    "progress",
    "heartbeat",
    "wait a little",
    "wait",
    "wait",
    "expire",
    "expire",
    "reclaim",
    "dismiss",
    "fail",
]


def without_turn(job: Mapping[Any, Any]) -> dict[str, Any]:
    """What clients see of a job."""
    return {name: value for name, value in job.items() if name != "turn"}


class Crash(Exception):
    """The server dies here."""


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock, self.model = Clock(), Model()
        self.leases: list[tuple[Lease, int]] = []  # all that were ever given and heard of, zombies too
        self.told: dict[tuple[str, int], Any] = {}  # results that were acknowledged
        self.holding: list[tuple[str, set[int], float, int]] = []
        self.last: dict[str, RowMapping] = {}
        self.crash: int | str | None = None
        self.dead: JobTable | None = None
        self.statements = self.opened = self.recorded = self.fences = 0
        self.root = tempfile.TemporaryDirectory()
        self.url = self.begin_empty()
        self.open()

    def begin_empty(self) -> str:
        """URL of an empty database."""
        self.folder = Path(self.root.name) / "0"
        self.folder.mkdir()
        return sqlite_url(self.folder)

    def leave(self) -> None:
        """Leave the database to the next process as it is."""
        files, self.folder = self.folder, Path(self.root.name) / str(self.opened)
        self.folder.mkdir()
        for file in files.iterdir():
            if not file.name.endswith("-shm"):  # memory that processes share: of no use to the next
                shutil.copy(file, self.folder)
        self.url = sqlite_url(self.folder)

    def hurry(self) -> None:
        """Wait for no disk: no power is lost here."""
        connection = self.table.database.engine.raw_connection()
        connection.cursor().execute("PRAGMA synchronous=OFF")
        connection.close()

    def open(self) -> None:
        self.opened += 1
        self.table = JobTable(self.url, lease_seconds=LEASE, clock=self.clock, steady=self.clock)
        self.hurry()
        event.listen(self.table.database.engine, "before_cursor_execute", self.on_statement)
        event.listen(self.table.database.engine, "commit", self.on_commit)

    def on_statement(self, *_: Any) -> None:
        if self.crash == self.statements:
            self.die()
        self.statements += 1

    def on_commit(self, _: Any) -> None:
        if self.crash == BEFORE_COMMIT:
            self.die()

    def die(self) -> None:
        self.crash, dead = None, self.table
        self.leave()
        self.open()
        self.dead = dead
        raise Crash

    def do(
        self, crash: int | str | None, real: Callable[[], T], modelled: Callable[[Model], Any]
    ) -> tuple[T, Any] | None:
        """Both; None if nobody hears the answer. What was not committed has not happened, what was has."""
        after = copy.deepcopy(self.model)
        expected = modelled(after)
        self.crash, self.statements, self.dead = crash, 0, None
        try:
            answer = real()
        except (Crash, DatabaseUnavailable):  # the rollback of a session that was ended fails
            assert self.dead is not None
            self.dead.close()
            return None
        finally:
            self.crash = None
        self.model = after
        if crash == AFTER_COMMIT:
            self.kill()
            return None
        return answer, expected

    def let_go(self, gone: Callable[[str, int], bool]) -> None:
        self.holding = [held for held in self.holding if not gone(held[0], held[3])]

    @initialize(crash=CRASHES)
    def begin(self, crash: Any) -> None:
        for name in sorted(SHAPES):
            self.submit(name, crash)

    # One rule with all steps: Hypothesis leaves out rules of a run at random, and little happens without claims.
    @rule(what=st.sampled_from(STEPS), name=NAMES, which=st.sampled_from([0, 0, 0, 1, 2, 3]), crash=CRASHES)
    def step(self, what: str, name: str, which: int, crash: Any) -> None:
        match what:
            case "submit":
                self.submit(name, crash)
            case "dismiss":
                self.dismiss(name, crash)
            case "wait a little":
                self.clock.now += 0.4
            case "wait":
                self.clock.now += LEASE * 0.7
            case "expire":
                self.expire(crash)
            case "reclaim":
                self.reclaim(crash)
            case "heartbeat" if self.leases:
                self.heartbeat(crash)
            case "claim":
                self.claim(1 + which % 2, crash)
            case _ if self.leases:
                self.work(what, *self.leases[-1 - which % len(self.leases)], crash)

    def submit(self, name: str, crash: Any) -> None:
        work = plan(*SHAPES[name], cores=CORES[name])
        both = self.do(crash, lambda: self.table.submit(name, "x", {"name": name}, work), lambda m: m.submit(name))
        if both is not None:
            assert both[0][1] == both[1]

    def dismiss(self, name: str, crash: Any) -> None:
        self.let_go(lambda job, _: job == name)
        both = self.do(crash, lambda: self.table.dismiss(name), lambda m: m.dismiss(name))
        if both is not None:
            assert (both[0] and both[0].state) == both[1]

    def claim(self, cores: int, crash: Any) -> None:
        both = self.do(
            crash,
            lambda: self.table.claim("worker", cores, ROOM, all_cores=ALL_CORES),
            lambda m: (m.claim(cores, self.clock.now), m.claims),
        )
        if both is None:
            return
        lease, (expected, claim) = both
        assert (lease and (lease.job, list(lease.rows))) == expected
        if lease is not None:
            for job, rows, until, _ in self.holding:
                assert job != lease.job or until < self.clock.now or not rows & set(lease.rows)
            assert lease.fence > self.fences
            assert not {(lease.job, row) for row in lease.rows} & set(self.told)
            self.fences = lease.fence
            self.leases.append((lease, claim))
            self.holding.append((lease.job, set(lease.rows), lease.until, lease.fence))

    def work(self, what: str, lease: Lease, claim: int, crash: Any) -> None:
        held = self.model.held(claim) is not None
        if what in {"lose", "finish", "put back"}:
            self.let_go(lambda _, fence: fence == lease.fence)
        match what:
            case "record all":
                self.record(lease, claim, lease.rows, crash)
            case "record first":
                self.record(lease, claim, lease.rows[:1], crash)
            case "record last":
                self.record(lease, claim, lease.rows[-1:], crash)
            case "lose":
                self.do(crash, lambda: self.table.lose(lease, "killed"), lambda m: m.lose(claim))
            case "finish":
                self.do(crash, lambda: self.table.finish(lease), lambda m: m.lose(claim))
            case "put back":
                self.do(crash, lambda: self.table.put_back(lease, "disk"), lambda m: m.put_back(claim))
            case "progress":
                said = {"stage": "tiles", "done": self.recorded, "total": 99}
                self.do(crash, lambda: self.table.progress(lease, *said.values()), lambda m: m.progress(claim, said))
            case "fail":
                error = {"code": "x"}
                self.do(crash, lambda: self.table.fail(lease, error), lambda m: m.fail(claim, error))
                if held:
                    self.let_go(lambda job, _: job == lease.job)

    def record(self, lease: Lease, claim: int, rows: tuple[int, ...], crash: Any) -> None:
        self.recorded += 1
        found = results(rows, by=str(self.recorded))  # each time another number: a second one would be seen
        before = {name: dict(job.results) for name, job in self.model.jobs.items()}
        both = self.do(crash, lambda: self.table.record(lease, found), lambda m: m.record(claim, found))
        if both is not None:
            assert both[0] == both[1]
            if both[0]:
                self.told |= {(lease.job, row): data for row, data in found if row not in before[lease.job]}

    def expire(self, crash: Any) -> None:
        both = self.do(crash, lambda: self.table.expire(), lambda m: m.expire(self.clock.now))
        assert both is None or both[0] == both[1]

    def reclaim(self, crash: Any) -> None:
        self.holding = []
        both = self.do(crash, lambda: self.table.reclaim(), lambda m: m.reclaim())
        assert both is None or both[0] == both[1]

    def heartbeat(self, crash: Any) -> None:
        leases = self.leases[-4:]
        claims = [claim for _, claim in leases]
        both = self.do(
            crash,
            lambda: self.table.heartbeat([lease for lease, _ in leases]),
            lambda m: m.heartbeat(claims, self.clock.now),
        )
        if both is not None:
            assert len(both[0]) == both[1]
            now = self.clock.now + LEASE
            until = {lease.fence: now for lease, claim in leases if self.model.held(claim) is not None}
            self.holding = [(job, rows, until.get(fence, old), fence) for job, rows, old, fence in self.holding]

    def kill(self) -> None:
        dead = self.table
        self.leave()
        self.open()
        dead.close()

    @invariant()
    def rows_and_units_are_consistent(self) -> None:
        engine = create_engine(make_url(self.url).set(drivername=self.table.database.engine.url.drivername))
        with engine.connect() as connection:
            jobs = connection.execute(text("SELECT * FROM jobs ORDER BY number")).mappings().all()
            queue = "SELECT job, CAST(rows AS TEXT), losses, fence, until FROM units ORDER BY place, id"
            units = connection.execute(text(queue)).all()
            stored = connection.execute(text("SELECT job, row, CAST(data AS TEXT) FROM results")).all()
        engine.dispose()
        names = {job["number"]: job["id"] for job in jobs}
        found = {(names[job], row): unsealed(data) for job, row, data in stored}
        assert len(found) == len(stored)
        assert all(found.get(key) == data for key, data in self.told.items())  # nothing lost that was acknowledged
        open_units = []
        for job, rows, losses, fence, until in units:
            left = [row for row in rows_of(unsealed(rows)) if (names[job], row) not in found]
            assert (fence is None) == (until is None)
            open_units.append((names[job], left, losses, fence is not None))
        for job in jobs:
            name, state, rows, done = (job[column] for column in ("id", "state", "rows", "done"))
            of_results = [row for other, row in found if other == name]
            of_units = [row for other, left, *_ in open_units for row in left if other == name]
            assert done == len(of_results)
            if state in {"accepted", "running"}:
                assert sorted(of_results + of_units) == list(range(rows))  # each in one place
                assert done < rows
            else:
                assert not [unit for unit in open_units if unit[0] == name]
            assert (state == "successful") == (done == rows)
            modelled = self.model.jobs[name]
            assert (state, job["losses"], job["attempt"]) == (modelled.state, modelled.losses, modelled.attempt)
            last = self.last.get(name)
            if last is None or without_turn(last) != without_turn(job):
                assert last is None or job["version"] > last["version"]
                self.check_in_full(name)
            self.last[name] = job
        assert set(names.values()) == set(self.model.jobs)
        assert open_units == [
            (unit.job, self.model.left(unit), unit.losses, unit.holder is not None) for unit in self.model.units
        ]

    def check_in_full(self, name: str) -> None:
        expected, job = self.model.jobs[name], self.table.get(name)
        assert job is not None
        assert (job.state, job.stage, job.error) == (expected.state, expected.stage, expected.error)
        found = {row: data.get("status", data) for row, data in self.table.results(name)}
        assert found == expected.results
        events = self.table.events(name)
        assert [each.type for each in events if each.type != "progress"] == expected.events
        assert len({each.id for each in events}) == len(events)
        told = [each.created.timestamp() for each in events if each.type == "progress"]
        assert all(b - a >= 1 for a, b in itertools.pairwise(told))

    def teardown(self) -> None:
        for name in self.model.jobs:
            self.check_in_full(name)
        self.table.close()
        self.root.cleanup()


class LongMachine(Machine):
    """The same with more and longer runs."""


class PostgresMachine(Machine):
    """The same on PostgreSQL."""

    server: ClassVar[Postgres]

    def begin_empty(self) -> str:
        self.name = self.server.create()
        return self.server.url(self.name)

    def leave(self) -> None:
        ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'"
        while self.server.execute(ending):  # sessions that still are there
            time.sleep(0.001)

    def hurry(self) -> None:
        """The server does."""

    def teardown(self) -> None:
        super().teardown()
        self.server.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


class LongPostgresMachine(PostgresMachine):
    """The same with more and longer runs."""


@pytest.fixture(scope="module")
def _server(postgres: Postgres) -> None:
    PostgresMachine.server = postgres


REPRODUCIBLE = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
Machine.TestCase.settings = settings(REPRODUCIBLE, max_examples=8, stateful_step_count=40)
LongMachine.TestCase.settings = settings(REPRODUCIBLE, max_examples=200, stateful_step_count=60)
TestMachine = Machine.TestCase
TestLongMachine = pytest.mark.slow(LongMachine.TestCase)
PostgresMachine.TestCase.settings = settings(REPRODUCIBLE, max_examples=2, stateful_step_count=40)
LongPostgresMachine.TestCase.settings = settings(REPRODUCIBLE, max_examples=100, stateful_step_count=60)
TestPostgresMachine = pytest.mark.usefixtures("_server")(PostgresMachine.TestCase)
TestLongPostgresMachine = pytest.mark.slow(pytest.mark.usefixtures("_server")(LongPostgresMachine.TestCase))
