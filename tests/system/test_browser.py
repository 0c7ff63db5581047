"""The service's pages in a real browser, on a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nngp_prior import Client, FullyConnected
from nngp_prior.data import Digits, RandomLabels
from tests.api.apps import npy
from tests.system.browser import CHROMIUM, sign_in
from tests.system.server import TOKEN, Server, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make browser)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed, such as Debian's package chromium"),
]
MARK = "document.body.dataset.mark = 'same page'"
# Of all elements with text of their own, those with too little contrast to the background behind them.
CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const background = (element) => {
    for (let part = element; part; part = part.parentElement) {
      const colour = channels(getComputedStyle(part).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const levels = [light(channels(getComputedStyle(element).color)), light(background(element))].sort((a, b) => b - a);
    const ratio = (levels[0] + 0.05) / (levels[1] + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName} ${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve(slots=1)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, TOKEN) as made:
        yield made


@pytest.fixture
def tab(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens pages, signed in; at the end nothing was loaded from elsewhere, and nothing was wrong."""
    contexts, wrong = [], []

    def heard(message: Any) -> None:
        expected = message.text.startswith("Failed to load resource") and "422" in message.text
        if message.type in ("error", "warning") and not expected:
            wrong.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith(f"{server.url}/"):
            wrong.append(request.url)

    def open_(**options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        sign_in(page, server.url, TOKEN)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def submit(client: Client, n: int, *seeds: int, depth: int = 1) -> Any:
    return client.estimate(FullyConnected(depth=depth), Digits(n=n), [RandomLabels(seed=seed) for seed in seeds])


def test_from_the_token_to_a_result(tab: Callable[..., Any], server: Server) -> None:
    page = tab()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").fill("wrong")
    page.route(
        "**/sign-in", lambda route: route.fulfill(response=route.fetch(), status=200)
    )  # 401 is logged as an error
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "That is not the token."
    page.unroute("**/sign-in")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="New job").click()
    page.locator("[id='dataset.digits.n']").fill("150")
    page.get_by_label("random", exact=True).check()
    page.locator("[id='labellings.random.seed']").fill("1..8")
    page.get_by_label("name", exact=True).fill("by hand")
    page.get_by_role("button", name="Show the cost").click()
    assert "8" in page.locator("#cost").inner_text()
    assert page.locator("[id='labellings.random.seed']").input_value() == "1..8"
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f]{64}"))
    page.evaluate(MARK)
    page.locator(".progress .successful").wait_for(timeout=60_000)
    assert page.evaluate("document.body.dataset.mark") == "same page"
    assert page.locator("#results tbody tr").count() == 8
    for image in page.locator("figure img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
    assert page.locator("figure img").count() == 2
    with page.expect_download() as download:
        page.get_by_role("link", name="npy").click()
    assert np.load(download.value.path()).shape == (8, 2)


def test_progress_appears_without_a_reload(tab: Callable[..., Any], client: Client) -> None:
    job = submit(client, 1000, *range(40))
    page = tab()
    page.evaluate(MARK)
    row = page.get_by_role("row").filter(has=page.locator(f"[id='open-{job.id}']"))
    row.get_by_role("checkbox").check()
    row.locator(".running").wait_for()
    wait_for(lambda: page.evaluate("document.querySelector('#jobs progress').value") > 0, 90)
    assert row.get_by_role("checkbox").is_checked()  # updates keep it
    assert page.evaluate("document.body.dataset.mark") == "same page"
    page.goto(f"{client.url}/jobs/{job.id}")
    page.evaluate(MARK)
    bar = page.locator("#state progress")
    done = bar.evaluate("bar => bar.value")
    wait_for(lambda: bar.evaluate("bar => bar.value") > done, 60)
    assert page.locator("#results tbody tr").count() > 0
    assert page.evaluate("document.body.dataset.mark") == "same page"
    page.get_by_role("button", name="Dismiss").click()
    page.locator(".progress .dismissed").wait_for()
    assert page.get_by_role("button", name="Start a new attempt").is_visible()


def test_jobs_are_compared(tab: Callable[..., Any], client: Client) -> None:
    jobs = [submit(client, 60, 1, 2, 3, depth=depth) for depth in (1, 3)]
    for job in jobs:
        job.wait()
    page = tab()
    for job in jobs:
        page.locator(f"[id='pick-{job.id}']").check()
    page.get_by_role("button", name="Compare").click()
    assert page.get_by_role("cell", name="architecture.depth").is_visible()
    page.locator("figure img").evaluate("image => image.decode()")
    assert page.locator("section[aria-labelledby=numbers-title] tbody tr").count() == 3


def test_errors_and_uploads(tab: Callable[..., Any]) -> None:
    page = tab()
    page.get_by_role("link", name="New job").click()
    page.get_by_label("blob", exact=True).first.check()
    X = npy(np.random.default_rng(0).standard_normal((30, 4)))
    page.locator("input[type=file][name='dataset.blob.sha256']").set_input_files(
        {"name": "inputs.npy", "mimeType": "application/octet-stream", "buffer": X}
    )
    page.get_by_label("random", exact=True).check()
    page.locator("[id='estimator.smc.replicates']").fill("1")
    page.get_by_role("button", name="Submit").click()
    field = page.locator("[id='estimator.smc.replicates']")
    assert field.get_attribute("aria-invalid") == "true"
    assert (
        "greater than or equal to 2" in page.locator(f"[id='{field.get_attribute('aria-describedby')}']").inner_text()
    )
    assert field.input_value() == "1"
    field.fill("4")
    page.get_by_role("button", name="Submit").click()
    page.locator(".progress .successful").wait_for(timeout=60_000)


def test_without_javascript(tab: Callable[..., Any]) -> None:
    page = tab(java_script_enabled=False)
    page.get_by_role("link", name="New job").click()
    page.locator("[id='dataset.digits.n']").fill("20")
    page.get_by_label("parity", exact=True).check()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f]{64}"))
    page.get_by_role("link", name="Jobs").click()
    assert page.get_by_role("checkbox").count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_narrow_screens_keyboards_and_contrast(tab: Callable[..., Any], client: Client, theme: str) -> None:
    job = submit(client, 40, 1, 2)
    job.wait()
    page = tab(color_scheme=theme, viewport={"width": 320, "height": 640})
    for path in ("/", f"/jobs/{job.id}", "/new", f"/compare?job={job.id}", "/docs"):
        page.goto(f"{client.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320 or path == "/docs", path
        if path != "/docs":
            assert page.evaluate(CONTRAST) == [], path
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.goto(f"{client.url}/")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == f"open-{job.id}":
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{job.id}")
