"""Pages for a person in a browser."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

import nngp_prior
from api.middleware import is_form
from nngp_prior.schemas.text import nats
from tests.api.apps import PARITY, TOKEN, WAIT, InProcess, client, problem

BROWSER = {"Authorization": "", "Accept": "text/html,*/*;q=0.8"}
ORIGIN = {"Origin": "http://localhost"}
FAST = {"kind": "smc", "particles": 4, "replicates": 2}
REQUESTS: dict[str, dict[str, Any]] = {
    "estimates": {**PARITY, "labellings": [{"kind": "parity"}, {"kind": "threshold", "at": 5}], "estimator": FAST},
    "bounds": {**PARITY, "sizes": [6, 12], "estimator": FAST},
    "posteriors": {**PARITY, "train": 8, "estimator": FAST},
    "selections": {
        "family": [{"kind": "fully-connected", "depth": 1, "activation": "erf"}],
        "dataset": {"kind": "digits", "n": 12},
        "labelling": {"kind": "parity"},
        "train": 8,
        "weight_std": [1.0, 2.0],
        "estimator": FAST,
    },
    "samples": {"dataset": {"kind": "boolean", "bits": 3}, "networks": 50, "source": "gp", "complexities": ["entropy"]},
    "kernels": {"dataset": {"kind": "digits", "n": 12}},
}


@pytest.fixture(scope="module")
def jobs(api: TestClient) -> dict[str, str]:
    """Ids of ended jobs, by kind."""
    found = {}
    for kind, body in REQUESTS.items():
        answer = api.post(f"/v1/{kind}", json=body, headers=WAIT)
        found[kind] = answer.headers["content-location"].split("/")[3]
    return found


@pytest.fixture
def browser(api: TestClient) -> Iterator[TestClient]:
    """Signed in, and without the token of other requests."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    api.post("/sign-in", content=f"token={TOKEN}", headers=form, follow_redirects=False)
    yield api
    api.cookies.clear()


def text_of(page: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", page))


def test_pages_need_the_cookie(api: TestClient, jobs: dict[str, str]) -> None:
    job = jobs["estimates"]
    for path in ("/", f"/jobs/{job}", f"/jobs/{job}/results.svg"):
        answer = api.get(path, headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={path}")
        problem(api.get(path, headers={"Authorization": ""}), 401, "unauthorized")


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_job_with_its_results(browser: TestClient, jobs: dict[str, str], kind: str) -> None:
    job = jobs[kind]
    page = browser.get(f"/jobs/{job}", headers=BROWSER)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page.text)
    assert not re.search(r"""(src|href|action)=["'](?!/)""", page.text.replace('href="#main"', ""))
    assert '<html lang="en">' in page.text
    assert job in page.text
    rows = browser.get(f"/jobs/{job}/results.json", headers=BROWSER).json()["results"]
    if "log_p" in rows[0]:
        assert nats(rows[0]["log_p"], rows[0]["stderr"]) in text_of(page.text)
    for name in re.findall(rf'src="(/jobs/{job}/[a-z]+\.svg[^"]*)"', page.text):
        figure = browser.get(unescape(name), headers=BROWSER)
        assert figure.headers["content-type"] == "image/svg+xml"
        assert figure.text.startswith("<svg")
        again = browser.get(unescape(name), headers={**BROWSER, "If-None-Match": figure.headers["etag"]})
        assert again.status_code == 304


def test_files_of_results(browser: TestClient, jobs: dict[str, str]) -> None:
    for form, start in (("json", b"{"), ("ndjson", b"{"), ("npy", b"\x93NUMPY")):
        answer = browser.get(f"/jobs/{jobs['estimates']}/results.{form}", headers=BROWSER)
        assert answer.content.startswith(start)
        assert answer.headers["content-disposition"].startswith("attachment")
    for path in ("results.npz", "results", "report.html", "spectrum.svg"):
        assert browser.get(f"/jobs/{jobs['kernels']}/{path}", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("kind", REQUESTS)
def test_the_python_of_a_request_submits_the_same_job(
    api: TestClient, jobs: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = api.get(f"/jobs/{jobs[kind]}").text
    (source,) = re.findall(r'id="request-python".*?<code>(.*?)</code>', page, re.DOTALL)
    made = nngp_prior.Client("http://localhost", TOKEN)

    def request(method: str, path: str, **options: Any) -> Any:
        return api.request(method, path, json=options.get("json"))

    monkeypatch.setattr(made._http, "request", request)
    monkeypatch.setattr(nngp_prior, "Client", lambda: made)
    names: dict[str, Any] = {}
    program = unescape(source)
    exec(program[: max(program.rfind("\nresults ="), program.rfind("\njob.wait"))], names)
    assert names["job"].id == jobs[kind]


def test_text_of_a_request_is_escaped(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    data = {"dataset": {"kind": "digits", "n": 4}, "labelling": {"kind": "parity"}}
    protocol = {"name": "x", "title": "<b>t</b>", "data": data, "quantities": [{"kind": "trace"}]}
    job = api.post("/v1/experiments", json={"protocol": protocol}).json()["id"]
    page = api.get(f"/jobs/{job}").text
    assert "<b>t" not in page
    assert "&lt;b&gt;t" in page


def test_dismissing_and_repeating(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    job = api.post("/v1/estimates", json=PARITY).json()["id"]
    assert f'data-live="/v1/jobs/{job}/events"' in api.get(f"/jobs/{job}").text
    assert 'data-live="poll"' in api.get("/").text
    for state, action in (("dismissed", "dismiss"), ("accepted", "repeat")):
        answer = api.post(f"/jobs/{job}/{action}", headers=ORIGIN, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
        assert api.get(f"/v1/jobs/{job}").json()["state"] in (state, "running")


@pytest.mark.parametrize("options", [{}, {"token": None, "no_token": True}])
def test_forms_of_other_origins_are_refused(tmp_path: Any, options: dict[str, Any]) -> None:
    elsewhere = [{}, {"Origin": "null"}, {"Origin": "http://localhost:8001"}, {"Origin": "https://localhost"}]
    elsewhere += [{**ORIGIN, "Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}]
    with client(tmp_path, **options) as api:
        for path in ("/new", f"/jobs/{'0' * 64}/dismiss", "/sign-out"):
            assert is_form("POST", path)
            for headers in elsewhere:
                problem(api.post(path, headers=headers), 403, "cross-origin")


def test_errors_are_pages(browser: TestClient) -> None:
    for path in (f"/jobs/{'0' * 64}", "/jobs/x", "/?cursor=!", "/?nothing=1"):
        page = browser.get(path, headers={"Accept": "text/html", "Authorization": f"Bearer {TOKEN}"})
        assert page.status_code in (404, 422)
        assert "<h1>" in page.text


def test_signing_out(browser: TestClient) -> None:
    answer = browser.post("/sign-out", headers={**BROWSER, **ORIGIN}, follow_redirects=False)
    assert answer.headers["location"] == "/sign-in"
    assert browser.get("/", headers=BROWSER, follow_redirects=False).status_code == 303


def test_names_and_tags_are_edited_and_filter_the_list(api: TestClient, jobs: dict[str, str]) -> None:
    job, form = jobs["bounds"], {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    fields = urlencode({"name": "a <b>& c", "tags": "digits, n < 20\nfirst"})
    answer = api.post(f"/jobs/{job}/names", content=fields, headers=form, follow_redirects=False)
    assert answer.status_code == 303
    document = api.get(f"/v1/jobs/{job}").json()
    assert (document["name"], document["tags"]) == ("a <b>& c", ["digits, n < 20", "first"])
    assert "<h1>a &lt;b&gt;&amp; c</h1>" in api.get(f"/jobs/{job}").text
    for query, listed in (
        ("state=successful", True),
        ("state=failed", False),
        ("name=%26+C&tag=&state=", True),
        ("tag=first&tag=digits, n < 20", True),
        ("tag=second", False),
    ):
        assert (job in api.get(f"/?{query}").text) == listed, query
    wrong = api.post(f"/jobs/{job}/names", content=urlencode({"name": "x" * 201, "tags": "kept"}), headers=form)
    assert wrong.status_code == 422
    assert "x" * 201 in wrong.text
    assert ">kept</textarea>" in wrong.text


def test_a_long_request_is_a_file(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    body = {**PARITY, "labellings": [{"kind": "random", "seed": seed} for seed in range(1, 2300)]}
    job = api.post("/v1/estimates", json=body).json()["id"]
    assert "too long to be shown" in api.get(f"/jobs/{job}").text
    assert api.get(f"/jobs/{job}/request.json").json() == body


def test_without_matplotlib_there_are_tables_and_a_hint(
    api: TestClient, jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.pages.can_draw", lambda: False)
    page = api.get(f"/jobs/{jobs['estimates']}").text
    assert "<img" not in page
    assert 'pip install "nngp-prior[plots]"' in unescape(page)
    assert "<table" in page


def test_jobs_side_by_side(api: TestClient, jobs: dict[str, str]) -> None:
    other = {**REQUESTS["estimates"], "architecture": {"kind": "fully-connected", "depth": 1}}
    second = api.post("/v1/estimates", json=other, headers=WAIT).headers["content-location"].split("/")[3]
    query = f"job={jobs['estimates']}&job={second}"
    page = api.get(f"/compare?{query}")
    assert "architecture.depth" in page.text
    assert "estimator.particles" not in page.text  # equal
    for job in (jobs["estimates"], second):
        for row in api.get(f"/v1/jobs/{job}/results").json()["results"]:
            assert nats(row["log_p"], row["stderr"]) in page.text
    assert api.get(f"/compare/figure?{query}").text.startswith("<svg")
    assert api.get(f"/compare?job={jobs['samples']}&job={second}").status_code == 200  # of different quantities
    assert api.get(f"/compare/figure?job={jobs['samples']}&job={second}").status_code == 404
    assert api.get("/compare").status_code == 200
    assert api.get(f"/compare?job={second}&job={'0' * 64}").status_code == 404


def test_the_cookie_reads_a_job_and_changes_nothing(browser: TestClient, jobs: dict[str, str]) -> None:
    path = f"/v1/jobs/{jobs['estimates']}"
    assert browser.get(path, headers=BROWSER).status_code == 200
    assert browser.get(f"{path}/events", headers=BROWSER).status_code == 200
    problem(browser.get(f"{path}/report", headers=BROWSER), 404, "not-found")  # allowed; only studies have one
    for method, where in (("DELETE", path), ("PATCH", path), ("GET", f"{path}/results"), ("POST", "/v1/estimates")):
        problem(browser.request(method, where, headers={**BROWSER, **ORIGIN}), 401, "unauthorized")
