"""The job table against a model, with crashes of the server between any two statements.

A crash copies the files of the database as they are at that moment, and goes on with a table opened on the copy: what
the dead process had not committed is undone by SQLite's recovery, not by a rollback of ours.
"""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import event

from api.jobs.models import Job, Lease
from api.jobs.rows import rows_of
from api.jobs.table import JobTable
from tests.api.jobs.model import ALL_CORES, CORES, SHAPES, Model
from tests.api.jobs.tables import LEASE, ROOM, Clock, plan, results, url

T = TypeVar("T")
BEFORE_COMMIT, AFTER_COMMIT = "before commit", "after commit"
NAMES = st.sampled_from(sorted(SHAPES))
CRASHES = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 9), st.sampled_from([BEFORE_COMMIT, AFTER_COMMIT]))


class Crash(Exception):
    """The server dies here."""


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.clock, self.model = Clock(), Model()
        self.leases: list[tuple[Lease, int]] = []  # all that were ever given and heard of, zombies too
        self.told: dict[tuple[str, int], Any] = {}  # results that were acknowledged
        self.holding: list[tuple[str, set[int], float, int]] = []
        self.last: dict[str, Job] = {}
        self.crash: int | str | None = None
        self.statements = self.opened = self.recorded = self.fences = 0
        self.open(None)

    def open(self, files: Path | None) -> None:
        self.opened += 1
        self.folder = Path(self.root.name) / str(self.opened)
        self.folder.mkdir()
        for file in () if files is None else files.iterdir():
            if not file.name.endswith("-shm"):  # memory that processes share: of no use to the next
                shutil.copy(file, self.folder)
        self.table = JobTable(url(self.folder), lease_seconds=LEASE, clock=self.clock)
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
        self.open(self.folder)
        self.dead = dead
        raise Crash

    def do(
        self, crash: int | str | None, real: Callable[[], T], modelled: Callable[[Model], Any]
    ) -> tuple[T, Any] | None:
        """Both; None if nobody hears the answer. What was not committed has not happened, what was has."""
        after = copy.deepcopy(self.model)
        expected = modelled(after)
        self.crash, self.statements = crash, 0
        try:
            answer = real()
        except Crash:
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

    @rule(name=NAMES, crash=CRASHES)
    def submit(self, name: str, crash: Any) -> None:
        work = plan(*SHAPES[name], cores=CORES[name])
        both = self.do(crash, lambda: self.table.submit(name, "x", {"name": name}, work), lambda m: m.submit(name))
        if both is not None:
            assert both[0][1] == both[1]

    @rule(cores=st.sampled_from([1, 2, 2]), crash=CRASHES)
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

    def lease(self, which: int) -> tuple[Lease, int]:
        return self.leases[-1 - which % len(self.leases)]

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 3), part=st.sampled_from(["all", "all", "first", "last"]), crash=CRASHES)
    def record(self, which: int, part: str, crash: Any) -> None:
        lease, claim = self.lease(which)
        rows = {"all": lease.rows, "first": lease.rows[:1], "last": lease.rows[-1:]}[part]
        self.recorded += 1
        found = results(rows, by=str(self.recorded))  # each time another number: a second one would be seen
        before = {name: dict(job.results) for name, job in self.model.jobs.items()}
        both = self.do(crash, lambda: self.table.record(lease, found), lambda m: m.record(claim, found))
        if both is not None:
            assert both[0] == both[1]
            if both[0]:
                self.told |= {(lease.job, row): data for row, data in found if row not in before[lease.job]}

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 3), done=st.integers(0, 9), crash=CRASHES)
    def progress(self, which: int, done: int, crash: Any) -> None:
        lease, claim = self.lease(which)
        stage = {"stage": "tiles", "done": done, "total": 9}
        self.do(crash, lambda: self.table.progress(lease, "tiles", done, 9), lambda m: m.progress(claim, stage))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 3), how=st.sampled_from(["lose", "lose", "lose", "finish", "put_back"]), crash=CRASHES)
    def give_up(self, which: int, how: str, crash: Any) -> None:
        lease, claim = self.lease(which)
        self.let_go(lambda _, fence: fence == lease.fence)
        real = {
            "lose": lambda: self.table.lose(lease, "killed"),
            "finish": lambda: self.table.finish(lease),
            "put_back": lambda: self.table.put_back(lease, "disk"),
        }
        self.do(crash, real[how], lambda m: m.put_back(claim) if how == "put_back" else m.lose(claim))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 3), crash=CRASHES)
    def fail(self, which: int, crash: Any) -> None:
        lease, claim = self.lease(which)
        ours = self.model.held(claim) is not None
        self.do(crash, lambda: self.table.fail(lease, {"code": "x"}), lambda m: m.fail(claim, {"code": "x"}))
        if ours:
            self.let_go(lambda job, _: job == lease.job)

    @precondition(lambda self: self.leases)
    @rule(crash=CRASHES)
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
            until = {
                lease.fence: self.clock.now + LEASE for lease, claim in leases if self.model.held(claim) is not None
            }
            self.holding = [(job, rows, until.get(fence, old), fence) for job, rows, old, fence in self.holding]

    @rule(name=NAMES, crash=CRASHES)
    def dismiss(self, name: str, crash: Any) -> None:
        self.let_go(lambda job, _: job == name)
        both = self.do(crash, lambda: self.table.dismiss(name), lambda m: m.dismiss(name))
        if both is not None:
            assert (both[0] and both[0].state) == both[1]

    @rule(seconds=st.sampled_from([0.4, LEASE / 2, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(crash=CRASHES)
    def expire(self, crash: Any) -> None:
        both = self.do(crash, lambda: self.table.expire(), lambda m: m.expire(self.clock.now))
        if both is not None:
            assert both[0] == both[1]

    @rule()
    def kill(self) -> None:
        dead = self.table
        self.open(self.folder)
        dead.close()

    @invariant()
    def rows_and_units_are_consistent(self) -> None:
        with sqlite3.connect(self.folder / "jobs.sqlite") as connection:
            jobs = connection.execute("SELECT number, id, state, rows, done, losses, attempt FROM jobs").fetchall()
            units = connection.execute(
                "SELECT job, rows, losses, fence, until FROM units ORDER BY place, id"
            ).fetchall()
            stored = connection.execute("SELECT job, row, data FROM results").fetchall()
        connection.close()
        names = {number: name for number, name, *_ in jobs}
        found = {(names[job], row): json.loads(data) for job, row, data in stored}
        assert len(found) == len(stored)
        assert all(found.get(key) == data for key, data in self.told.items())  # nothing lost that was acknowledged
        open_units = []
        for job, rows, losses, fence, until in units:
            left = [row for row in rows_of(json.loads(rows)) if (names[job], row) not in found]
            assert (fence is None) == (until is None)
            open_units.append((names[job], left, losses, fence is not None))
        for _, name, state, rows, done, losses, attempt in jobs:
            of_results = [row for job, row in found if job == name]
            of_units = [row for job, left, *_ in open_units for row in left if job == name]
            assert done == len(of_results)
            if state in {"accepted", "running"}:
                assert sorted(of_results + of_units) == list(range(rows))  # each in one place
                assert done < rows
            else:
                assert not [unit for unit in open_units if unit[0] == name]
            assert (state == "successful") == (done == rows)
            modelled = self.model.jobs[name]
            assert (state, losses, attempt) == (modelled.state, modelled.losses, modelled.attempt)
        assert {name for _, name, *_ in jobs} == set(self.model.jobs)
        assert open_units == [
            (unit.job, self.model.left(unit), unit.losses, unit.holder is not None) for unit in self.model.units
        ]

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        for name, expected in self.model.jobs.items():
            job = self.table.get(name)
            assert job is not None
            assert (job.state, job.stage, job.error) == (expected.state, expected.stage, expected.error)
            last = self.last.get(name)
            if job != last:
                assert last is None or job.version > last.version
                self.check_in_full(name)
            self.last[name] = job

    def check_in_full(self, name: str) -> None:
        expected = self.model.jobs[name]
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


Machine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestMachine = pytest.mark.timeout(300)(Machine.TestCase)
