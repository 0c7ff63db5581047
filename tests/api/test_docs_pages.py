"""Pages for browsers: documentation that loads nothing from elsewhere, and signing in."""

import re
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.api.apps import TOKEN, problem


def test_answers_carry_headers_that_browsers_obey(api: TestClient) -> None:
    for path in ("/healthz", "/v1/catalogue", "/nowhere"):
        headers = api.get(path).headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"


def test_docs_load_nothing_from_elsewhere(api: TestClient) -> None:
    page = api.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "//" not in page.text
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text)
    for source in re.findall(r'(?:src|href)="(.*?)"', page.text):
        found = api.get(source)
        assert found.status_code == 200
        assert not re.search(r"https?://|innerHTML|eval\(", found.text)


def test_a_browser_signs_in(api: TestClient) -> None:
    form = {"Authorization": "", "Content-Type": "application/x-www-form-urlencoded"}
    browser = {"Authorization": "", "Accept": "text/html,*/*;q=0.8"}
    api.cookies.clear()
    answer = api.get("/docs", headers=browser, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/docs")
    page = api.get(answer.headers["location"], headers=browser)
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert '<form class="sign-in" method="post" action="/sign-in">' in page.text
    for wrong in ("", "token=", "token=wrong", "tok%65n=%ff", f"token={TOKEN}x"):
        refused = api.post("/sign-in", content=wrong, headers=form)
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        assert "not the token" in refused.text
    answer = api.post("/sign-in", content=f"token=+{TOKEN}%0A&next=/docs", headers=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    try:
        for path in ("/docs", "/docs/docs.js", "/docs/docs.css", "/openapi.json"):
            assert api.get(path, headers=browser).status_code == 200
            problem(api.post(path, headers=browser), 401, "unauthorized")
        for path in ("/v1/jobs", "/metrics", "/v1/catalogue"):  # it opens nothing else
            problem(api.get(path, headers=browser), 401, "unauthorized")
        api.cookies.clear()
        api.cookies.set("nngp-session", "0" * 64)
        assert api.get("/docs", headers=browser, follow_redirects=False).status_code == 303
    finally:
        api.cookies.clear()


@pytest.mark.parametrize(
    "url", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/v1/x"]
)
def test_signing_in_leads_to_pages_of_the_service_alone(api: TestClient, url: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    fields = urlencode({"token": TOKEN, "next": url})
    answer = api.post("/sign-in", content=fields, headers=form, follow_redirects=False)
    api.cookies.clear()
    assert answer.headers["location"] == "/"
    assert f'href="{url}"' not in api.get("/sign-in", params={"next": url}).text


def test_openapi_lists_the_routes_and_their_problems(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    assert set(document["paths"]["/v1/blobs/{sha256}"]) == {"put", "head", "delete"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "application/problem+json" in operation["responses"]["4XX"]["content"], path
            assert "422" not in operation["responses"]
