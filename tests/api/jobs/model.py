"""The job table as one would write it if nothing ever broke: lists and dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.api.jobs.tables import LEASE

SHAPES = {"one": (1,), "chunks": (3, 1, 2), "wide": (5,)}
CORES = {"one": 1, "chunks": 1, "wide": 0}
ALL_CORES = 2


@dataclass
class Unit:
    job: str
    rows: list[int]
    losses: int = 0
    holder: int | None = None
    until: float = 0.0


@dataclass
class ModelJob:
    state: str = "accepted"
    attempt: int = 1
    losses: int = 0
    results: dict[int, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=lambda: ["accepted"])
    error: Any = None
    stage: Any = None


class Model:
    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.units: list[Unit] = []  # those of a job in their order
        self.turns: list[str] = []  # jobs that have not ended, the next one first
        self.claims = 0

    def left(self, unit: Unit) -> list[int]:
        return [row for row in unit.rows if row not in self.jobs[unit.job].results]

    def held(self, claim: int) -> Unit | None:
        return next((unit for unit in self.units if unit.holder == claim), None)

    def next_turn(self, name: str) -> None:
        if name in self.turns:
            self.turns.remove(name)
            self.turns.append(name)

    def end(self, name: str, state: str) -> None:
        self.units = [unit for unit in self.units if unit.job != name]
        self.turns.remove(name)
        self.jobs[name].state, self.jobs[name].stage = state, None
        self.jobs[name].events.append(state)

    def submit(self, name: str) -> bool:
        if name not in self.jobs:
            self.jobs[name] = ModelJob()
        elif self.jobs[name].state in {"failed", "dismissed"} or "worker-crashed" in self.jobs[name].results.values():
            if self.jobs[name].state in {"accepted", "running"}:
                return False
            old = self.jobs[name]
            kept = {row: data for row, data in old.results.items() if data != "worker-crashed"}
            self.jobs[name] = ModelJob(attempt=old.attempt + 1, results=kept)
        else:
            return False
        self.turns.append(name)
        start = 0
        for size in SHAPES[name]:
            unit = Unit(name, list(range(start, start + size)))
            start += size
            if self.left(unit):
                self.units.append(unit)
        return True

    def claim(self, cores: int, now: float) -> tuple[str, list[int]] | None:
        waiting = [unit for name in self.turns for unit in self.units if unit.job == name and unit.holder is None]
        unit = next(iter(waiting), None)
        if unit is None or (CORES[unit.job] or ALL_CORES) > cores:
            return None
        self.claims += 1
        unit.holder, unit.until = self.claims, now + LEASE
        self.next_turn(unit.job)
        job = self.jobs[unit.job]
        if job.state == "accepted":
            job.state = "running"
            job.events.append("running")
        return unit.job, self.left(unit)

    def heartbeat(self, claims: list[int], now: float) -> int:
        held = [unit for claim in set(claims) if (unit := self.held(claim)) is not None]
        for unit in held:
            unit.until = now + LEASE
        return len(held)

    def record(self, claim: int, rows: list[tuple[int, Any]]) -> bool:
        unit = self.held(claim)
        if unit is None:
            return False
        job = self.jobs[unit.job]
        new = {row: data for row, data in rows if row not in job.results}
        job.results |= new
        job.events += ["rows"] if new else []
        if len(job.results) == sum(SHAPES[unit.job]):
            self.end(unit.job, "successful")
        return True

    def progress(self, claim: int, stage: dict[str, Any]) -> None:
        unit = self.held(claim)
        if unit is not None:
            self.jobs[unit.job].stage = stage

    def put_back(self, claim: int) -> None:
        unit = self.held(claim)
        if unit is not None:
            unit.holder, unit.rows = None, self.left(unit)
            if not unit.rows:
                self.units.remove(unit)

    def lose(self, claim: int) -> None:
        unit = self.held(claim)
        if unit is None:
            return
        self.next_turn(unit.job)
        left = self.left(unit)
        if left:
            unit.losses += 1
            self.jobs[unit.job].losses += 1
            self.jobs[unit.job].stage = None
            self.jobs[unit.job].events.append("lost")
        alone = len(unit.rows) == 1
        if alone and left and unit.losses >= 3:
            self.record(claim, [(left[0], "worker-crashed")])
        elif left:
            half = (len(left) + 1) // 2
            halves = [Unit(unit.job, part, unit.losses if alone else 0) for part in (left[:half], left[half:]) if part]
            # The second half behind all that came of the same chunk, as it has waited for less long.
            self._replace(unit, halves)
            return
        if unit in self.units:
            self.units.remove(unit)

    def _replace(self, unit: Unit, halves: list[Unit]) -> None:
        first = next(iter(halves))
        self.units[self.units.index(unit)] = first
        for half in halves[1:]:
            chunk = chunk_of(half)
            behind = max(i for i, other in enumerate(self.units) if chunk_of(other) == chunk)
            self.units.insert(behind + 1, half)

    def fail(self, claim: int, error: Any) -> None:
        unit = self.held(claim)
        if unit is not None:
            self.jobs[unit.job].error = error
            self.end(unit.job, "failed")

    def dismiss(self, name: str) -> str | None:
        if name not in self.jobs:
            return None
        if self.jobs[name].state in {"accepted", "running"}:
            self.end(name, "dismissed")
        return self.jobs[name].state

    def expire(self, now: float) -> int:
        overdue = [unit.holder for unit in self.units if unit.holder is not None and unit.until < now]
        for claim in overdue:
            self.interrupt(claim)
        return len(overdue)

    def reclaim(self) -> int:
        held = [unit.holder for unit in self.units if unit.holder is not None]
        for claim in held:
            self.interrupt(claim)
        return len(held)

    def interrupt(self, claim: int) -> None:
        unit = self.held(claim)
        if unit is not None and self.left(unit):
            self.jobs[unit.job].stage = None
        self.put_back(claim)


def chunk_of(unit: Unit) -> tuple[str, int]:
    starts, row = [sum(SHAPES[unit.job][:i]) for i in range(len(SHAPES[unit.job]))], unit.rows[0]
    return unit.job, max(start for start in starts if start <= row)
