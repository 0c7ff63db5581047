"""The form that submits requests."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.pages.form import FORMS, Form, groups_of, request_of, values_of
from api.work import WORK
from tests.api.apps import InProcess, client, npy, sha256

ORIGIN = {"Origin": "http://localhost"}
ENTERED = {
    "dataset": "digits",
    "dataset.digits.n": "20",
    "architecture": "fully-connected",
    "architecture.fully-connected.depth": "1",
    "labellings": ["threshold", "random"],
    "labellings.threshold.at": "5",
    "labellings.random.seed": "1, 3..4",
    "estimator": "ep",
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that accepts jobs and computes nothing."""
    home = tmp_path_factory.mktemp("home")
    executor = InProcess(home)
    executor.go_on.clear()
    with client(home, executor) as served:
        yield served


def send(api: TestClient, fields: dict[str, Any], do: str = "cost", files: Any = None, work: str = "estimates") -> Any:
    sent = [(name, (None, text)) for name, texts in {**fields, "do": do}.items() for text in _list(texts)]
    sent += [(name, ("x.npy", content)) for name, content in (files or {}).items()]
    return api.post(f"/new?work={work}", files=sent, headers=ORIGIN, follow_redirects=False)


def _list(texts: Any) -> list[str]:
    return texts if isinstance(texts, list) else [texts]


def value(page: str, name: str) -> str:
    (found,) = re.findall(rf'<input name="{re.escape(name)}" id="[^"]*" value="([^"]*)"', page)
    return unescape(found)


def error(page: str, name: str) -> str:
    (found,) = re.findall(rf'id="error-{re.escape(name)}">(.*?)</p>', page)
    return unescape(found)


@pytest.mark.parametrize("work", WORK)
def test_each_kind_of_work_has_a_form(api: TestClient, work: str) -> None:
    page = api.get(f"/new?work={work}")
    assert page.status_code == 200
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page.text)
    identifiers = re.findall(r'\sid="([^"]*)"', page.text)
    assert len(identifiers) == len(set(identifiers))
    for described in re.findall(r'(?:aria-describedby|for)="([^"]*)"', page.text):
        assert described in identifiers


def test_the_cost_is_shown_and_then_the_job_submitted(api: TestClient) -> None:
    page = send(api, ENTERED)
    assert page.status_code == 200
    assert ">4<" in page.text.partition('id="cost"')[2].replace("</dd>", "<")  # labellings
    assert value(page.text, "labellings.random.seed") == "1, 3..4"
    answer = send(api, {**ENTERED, "name": "by form", "tags": "one\r\ntwo"}, "submit")
    assert answer.status_code == 303
    job = api.get(f"/v1{answer.headers['location']}").json()
    assert (job["name"], job["tags"]) == ("by form", ["one", "two"])
    again = api.get(f"/new?job={job['id']}").text
    assert value(again, "labellings.random.seed") == "1, 3, 4"
    assert value(again, "dataset.digits.n") == "20"
    wanted = {
        "dataset": {"kind": "digits", "n": 20},
        "architecture": {"kind": "fully-connected", "depth": 1},
        "labellings": [{"kind": "threshold", "at": 5}, *({"kind": "random", "seed": seed} for seed in (1, 3, 4))],
        "estimator": {"kind": "ep"},
    }
    assert api.post("/v1/estimates", json=wanted).json()["id"] == job["id"]


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"dataset.digits.n": "0"}, "dataset.digits.n", "greater than or equal to 1"),
        ({"dataset.digits.n": "<many>"}, "dataset.digits.n", "<many>"),
        ({"dataset.digits.n": "5000"}, "dataset.digits.n", "5,000"),
        ({"labellings": []}, "labellings", "at least 1"),
        ({"labellings.random.seed": "1, x"}, "labellings.random.seed", "x"),
        ({"labellings.random.seed": "0..99999999"}, "labellings", "more than"),
        ({"labellings.threshold.at": ""}, "labellings.threshold.at", "required"),
        ({"labellings.threshold.corruption": "0.2"}, "labellings.threshold.corruption", "object"),
        (
            {"architecture.fully-connected.weight_std": "-1"},
            "architecture.fully-connected.weight_std",
            "greater than 0",
        ),
        ({"dataset": "blob", "dataset.blob.sha256": "abc"}, "dataset.blob.sha256", "64 hexadecimal digits"),
        ({"seed": "1.5"}, "seed", "integer"),
        ({"tags": "x" * 51}, "tags", "50"),
    ],
)
def test_errors_are_beside_their_fields_and_nothing_is_lost(
    api: TestClient, changed: dict[str, Any], field: str, message: str
) -> None:
    page = send(api, {**ENTERED, "name": "kept & typed", **changed}, "submit")
    assert page.status_code == 422
    assert message in error(page.text, field)
    assert value(page.text, "name") == "kept & typed"
    for name, text in {**ENTERED, **changed}.items():
        if name in ("dataset", "architecture", "labellings", "estimator"):
            for kind in _list(text):
                assert f'id="{name}.{kind}" checked' in page.text
        elif name not in ("tags",):
            assert value(page.text, name) == text


def test_arrays_are_uploaded(api: TestClient) -> None:
    X, Y = npy(np.random.default_rng(0).standard_normal((6, 3))), npy(np.array([[1, -1] * 3], np.int8))
    fields = {
        **ENTERED,
        "dataset": "blob",
        "labellings": "blob",
        "dataset.blob.sha256": "",
        "labellings.blob.sha256": "",
    }
    page = send(api, fields, "cost", {"dataset.blob.sha256": X, "labellings.blob.sha256": Y})
    assert page.status_code == 200
    assert value(page.text, "dataset.blob.sha256") == sha256(X)
    assert value(page.text, "labellings.blob.sha256") == sha256(Y)
    assert api.head(f"/v1/blobs/{sha256(X)}").status_code == 200
    refused = send(api, fields, "submit", {"dataset.blob.sha256": b"no array", "labellings.blob.sha256": Y})
    assert refused.status_code == 422
    assert "The file" in error(refused.text, "dataset.blob.sha256")
    assert value(refused.text, "labellings.blob.sha256") == sha256(Y)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x=1", "application/x-www-form-urlencoded", 415),
        (b"", "multipart/form-data; boundary=b", 422),
        (b"--b\r\n", "multipart/form-data; boundary=b", 422),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b", 422),
        (b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\nno end", "multipart/form-data; boundary=b", 422),
        (b"nothing", "multipart/form-data", 415),
    ],
)
def test_other_bodies_are_refused(api: TestClient, body: bytes, kind: str, status: int) -> None:
    assert api.post("/new", content=body, headers={**ORIGIN, "Content-Type": kind}).status_code == status


def test_requests_as_json_and_studies_by_name(api: TestClient) -> None:
    assert 'id="cost"' in send(api, {"request": "digits"}, work="experiments").text
    wrong = send(api, {"request": '{"dataset": '}, work="sharpness")
    assert wrong.status_code == 422
    assert "Correct it" in error(wrong.text, "request")
    assert "{&#34;dataset&#34;:" in wrong.text
    answer = send(api, {"request": '{"protocol": "nothing"}'}, work="experiments")
    assert "protocol" in answer.text.partition('role="alert"')[2].partition("</div>")[0]


@pytest.mark.parametrize("work", FORMS)
def test_what_a_form_shows_is_what_it_sends(work: str) -> None:
    """Defaults of every option are valid where they are complete, and survive the way through the form's texts."""
    model = WORK[work].request
    for group in groups_of(work):
        for option in group.options:
            content = {"dataset": {"kind": "digits", "n": 9}, "train": 4, "labellings": [{"kind": "parity"}]}
            given = {"kind": option.kind, "noise_variance": 1} if option.kind == "laplace" else {"kind": option.kind}
            if any(field.required and field.label not in given for field in option.fields):
                continue
            content[group.name] = [given] if group.several else given
            content = {name: part for name, part in content.items() if name in model.model_fields}
            whole = model.model_validate(content)
            texts = values_of(work, whole.as_json)
            assert texts is not None
            again, _ = request_of(work, Form(texts))
            assert model.model_validate(again) == whole
