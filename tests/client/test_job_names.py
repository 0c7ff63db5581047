"""Names and tags of jobs: the same calls to a service and in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import Client, FullyConnected, LocalClient
from nngp_prior.data import Constant, Digits, Parity
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import KernelCache
from nngp_prior.schemas.requests import EstimateRequest
from tests.api import apps

NET, DATA = FullyConnected(width=3), Digits(n=4)
PROTOCOL = {
    "kind": "networks",
    "name": "tiny",
    "data": {"dataset": {"kind": "digits", "n": 4}, "labelling": {"kind": "parity"}, "test": 2},
    "quantities": ["trace"],
    "axes": {"width": [2, 3]},
}


@pytest.fixture(params=["service", "process"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client | LocalClient]:
    if request.param == "process":
        yield LocalClient(KernelCache(tmp_path, 10**9))
        return
    executor = apps.InProcess(tmp_path)
    executor.go_on.clear()
    with apps.client(tmp_path, executor) as served:
        yield Client("http://localhost", apps.TOKEN, transport=served._transport)


def test_every_submission_takes_a_name_and_tags(client: Client | LocalClient) -> None:
    weights = [(np.ones((64, 3)), np.zeros(3)), (np.ones((3, 3)), np.zeros(3)), (np.ones((3, 1)), np.zeros(1))]
    names: dict[str, Any] = {"name": "Größe 4", "tags": ("b", "a")}
    jobs = [
        client.estimate(NET, DATA, [Parity()], **names),
        client.bound(NET, DATA, [Parity()], **names),
        client.posterior(NET, DATA, [Parity()], train=2, **names),
        client.sample(NET, DATA, 10, **names),
        client.sharpness(NET, weights, DATA, Parity(), **names),
        client.experiment(PROTOCOL, **names),
        client.submit(EstimateRequest(dataset=DATA, labellings=(Constant(),)), **names),
    ]
    assert {(job.name, job.tags) for job in jobs} == {("Größe 4", ("a", "b"))}
    assert [job.id for job in client.jobs(name="GRÖSSE", tags=["a", "b"])] == [job.id for job in reversed(jobs)]


def test_jobs_are_found_by_their_last_name_and_all_their_tags(client: Client | LocalClient) -> None:
    job = client.estimate(NET, DATA, [Parity()], name="first", tags="a")
    other = client.estimate(NET, DATA, [Constant()], tags=["a"])
    again = client.estimate(NET, DATA, [Parity()], name="second", tags=(tag for tag in "bc"))
    assert again.id == job.id
    assert (again.name, again.tags) == ("second", ("a", "b", "c"))
    assert client.estimate(NET, DATA, [Parity()]).name == "second"
    assert [each.id for each in client.jobs(tags="a")] == [other.id, job.id]
    assert [each.id for each in client.jobs(name="COND", tags=("a", "b"))] == [job.id]
    assert list(client.jobs(name="first")) == []
    assert list(client.jobs("failed", name="second")) == []
    status = job.edit(name="third", add_tags="d", remove_tags=["a", "b"])
    assert (status.name, status.tags) == (job.name, job.tags) == ("third", ("c", "d"))
    assert job.edit(name="").name is None
    assert client.job(job.id).tags == ("c", "d")


def test_refused_names(client: Client | LocalClient) -> None:
    X, Y = np.eye(3), np.array([1, -1, 1])
    for names, field in (
        ({"name": ""}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"tags": ["ok", "two\nlines"]}, "tags.1"),
        ({"tags": map(str, range(21))}, "tags"),
    ):
        with pytest.raises(InvalidInput) as raised:
            client.estimate(NET, X, Y, **names)
        assert raised.value.field == field
    assert list(client.jobs()) == []
    job = client.estimate(NET, DATA, [Parity()], tags=map(str, range(20)))
    with pytest.raises(InvalidInput, match="tags: the job would have 21"):
        job.edit(add_tags="more")
    with pytest.raises(InvalidInput, match="not both"):
        job.edit(add_tags="0", remove_tags="0")
