"""Names and tags of jobs over HTTP."""

import threading
from typing import Any

import pytest
from starlette.testclient import TestClient

from nngp_prior.schemas.job_names import MAX_TAGS
from tests.api.apps import WAIT, InProcess, problem, request


def post(api: TestClient, seed: int, **params: Any) -> dict[str, Any]:
    response = api.post("/v1/estimates", json=request(seed), params=params)
    assert response.status_code in (200, 201), response.text
    return response.json()


@pytest.mark.parametrize("ended", [False, True])
def test_the_same_request_under_another_name(held: tuple[TestClient, InProcess], ended: bool) -> None:
    api, executor = held
    unnamed = post(api, 1)
    assert (unnamed["name"], unnamed["tags"]) == (None, [])
    if ended:
        executor.go_on.set()
        api.post("/v1/estimates", json=request(1), headers=WAIT)
    post(api, 1, name="first", tag=["b", "a", "b"])
    again = post(api, 1, name="second", tag="c")
    assert again["id"] == unnamed["id"]
    assert (again["name"], again["tags"], again["attempt"]) == ("second", ["a", "b", "c"], 1)
    assert post(api, 1)["name"] == "second"
    assert [job["id"] for job in api.get("/v1/jobs?name=SECOND&tag=a&tag=c").json()["jobs"]] == [unnamed["id"]]
    assert api.get("/v1/jobs?name=first").json()["jobs"] == []


def test_a_new_attempt_keeps_name_and_tags(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    job = post(api, 1, name="first", tag="a")
    api.delete(f"/v1/jobs/{job['id']}")
    again = post(api, 1, tag="b")
    assert (again["attempt"], again["name"], again["tags"]) == (2, "first", ["a", "b"])


def test_a_job_is_renamed(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    where = f"/v1/jobs/{post(api, 1, name='first', tag=['a', 'b'])['id']}"
    tag = api.get(where).headers["ETag"]
    edit = {"name": "Tiefe 2…5", "add_tags": ["c", "a"], "remove_tags": ["b", "unknown"]}
    changed = api.patch(where, json=edit)
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["tags"]) == ("Tiefe 2…5", ["a", "c"])
    shown = api.get(where, headers={"If-None-Match": tag})
    assert (shown.status_code, shown.json()["name"]) == (200, "Tiefe 2…5")
    assert shown.headers["ETag"] == changed.headers["ETag"]
    assert api.patch(where, json=edit).headers["ETag"] == changed.headers["ETag"]
    assert api.patch(where, json={"add_tags": ["d"]}).json()["name"] == "Tiefe 2…5"
    assert api.patch(where, json={"name": None}).json()["name"] is None
    tag = api.get(where).headers["ETag"]
    threading.Timer(0.1, lambda: api.patch(where, json={"name": "last"})).start()
    waited = api.get(where, headers={"If-None-Match": tag, "Prefer": "wait=20"})
    assert waited.json()["name"] == "last"


def test_pages_keep_their_filters(api: TestClient) -> None:
    expected = [post(api, seed, name=f"a&b=100% {seed}", tag=["x y", "é&"])["id"] for seed in range(5)][::-1]
    post(api, 5, name="a&b=1000", tag="x y")
    found, where = [], api.get("/v1/jobs", params={"name": "A&B=100%", "tag": ["x y", "é&"], "limit": 2}).json()
    while True:
        found += [job["id"] for job in where["jobs"]]
        if not where["links"]:
            break
        where = api.get(where["links"][0]["href"]).json()
    assert found == expected


@pytest.mark.parametrize(
    ("params", "location", "remedy"),
    [
        ({"name": ""}, "query.name", "at least 1"),
        ({"name": "n" * 201}, "query.name", "at most 200"),
        ({"name": "two\nlines"}, "query.name", "no control characters"),
        ({"name": "\u202efdp.exe"}, "query.name", "no control characters"),
        ({"tag": ["ok", "t" * 51]}, "query.tag.1", "at most 50"),
        ({"tag": " a"}, "query.tag.0", "Remove the spaces"),
        ({"tag": [str(i) for i in range(MAX_TAGS + 1)]}, "query.tag", "at most 20"),
        ({"tags": "a"}, "query.tags", "dry_run, name, tag"),
    ],
)
def test_refused_names(api: TestClient, params: dict[str, Any], location: str, remedy: str) -> None:
    found = problem(api.post("/v1/estimates", json=request(50), params=params), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert remedy in found["detail"]


def test_refused_edits(api: TestClient) -> None:
    where = f"/v1/jobs/{post(api, 60, tag=[str(i) for i in range(MAX_TAGS)])['id']}"
    for edit, location, remedy in (
        ({"name": ""}, "body.name", "at least 1"),
        ({"add_tags": ["a"], "remove_tags": ["a"]}, "body.remove_tags", "not both"),
        ({"tags": ["a"]}, "body.tags", "no such field"),
        ({"add_tags": "a"}, "body.add_tags", "a list"),
        ({"add_tags": ["a"]}, "tags", "Remove some of its tags"),
    ):
        found = problem(api.patch(where, json=edit), 422, "invalid-request")
        assert found["errors"][0]["location"] == location
        assert remedy in found["detail"]
    full = problem(api.post("/v1/estimates?tag=a", json=request(60)), 422, "invalid-request")
    assert "the job would have 21" in full["detail"]
    assert api.patch(where, json={"add_tags": ["a"], "remove_tags": ["0"]}).status_code == 200
    problem(api.patch(f"/v1/jobs/{'0' * 64}", json={}), 404, "not-found")
