"""Coroutines that wait for jobs."""

from __future__ import annotations

import asyncio

import pytest

from api.jobs.models import State
from api.jobs.notifier import Notifier
from api.jobs.table import JobTable
from api.problems import Problem
from tests.api.jobs.tables import claim, results, submit


def test_a_change_is_read_once_for_all_who_subscribe(table: JobTable, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(table, "a", 3)
    changes, read = Notifier(table), []
    events = table.events
    monkeypatch.setattr(table, "events", lambda job, after: (read.append(after), events(job, after))[1])

    async def subscribe(seen: list[str], first: asyncio.Event) -> None:
        after = 0
        with changes.of("a") as changed:
            while True:
                changed.clear()
                now, found = await changes.news("a", after)
                seen += [event.type for event in found]
                after = found[-1].id if found else after
                first.set()
                if now is None or now[0] is State.SUCCESSFUL:
                    return
                await changed.wait()

    async def all_of_them() -> list[list[str]]:
        seen: list[list[str]] = [[] for _ in range(50)]
        firsts = [asyncio.Event() for _ in seen]
        running = [asyncio.create_task(subscribe(*each)) for each in zip(seen, firsts, strict=True)]
        for first in firsts:
            await first.wait()
        assert read == [0]
        lease = claim(table)
        table.record(lease, results([0, 1, 2]))
        await asyncio.gather(*running)
        return seen

    seen = asyncio.run(all_of_them())
    assert all(each == seen[0] for each in seen)
    assert (seen[0][0], seen[0][-1]) == ("accepted", "successful")
    assert len(read) <= 4


def test_a_subscriber_to_a_new_attempt_hears_nothing_of_the_one_before(table: JobTable) -> None:
    submit(table, "a", 3)
    changes = Notifier(table)

    async def check() -> None:
        with changes.of("a"):
            await changes.news("a", 0)
            table.dismiss("a")
            submit(table, "a", 3)
            await asyncio.sleep(0.01)
            now, found = await changes.news("a", 0)
            assert now is not None
            assert now[0] is State.ACCEPTED
            assert [event.type for event in found] == ["accepted"]

    asyncio.run(check())


def test_who_waits_is_woken_when_the_service_is_about_to_be_closed(table: JobTable) -> None:
    submit(table, "a", 3)
    changes = Notifier(table)

    async def check() -> None:
        waiting = asyncio.create_task(changes.ended("a", 30))
        await asyncio.sleep(0.05)
        changes.stop_waiting()
        for each in (waiting, changes.ended("a", 30)):
            with pytest.raises(Problem, match="being stopped") as caught:
                await each
            assert caught.value.status == 503
        job = await changes.ended("a", 0)
        assert job is not None

    asyncio.run(check())
