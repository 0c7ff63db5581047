"""Pictures of the service's pages for the documentation: ``python -m tests.system.screenshots docs/images``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from nngp_prior import Client, FullyConnected
from nngp_prior.client import as_completed
from nngp_prior.data import Boolean, Digits, Randomise, RandomLabels, Threshold
from tests.system.browser import CHROMIUM, sign_in
from tests.system.server import TOKEN, Server

_DIGITS = Digits(n=300)


def submit(client: Client) -> dict[str, Any]:
    """Submit the jobs that are shown; return them by name once they have ended."""
    labellings = [Threshold(at=5), Threshold(at=5, corruption=Randomise(probability=0.2))]
    labellings += [RandomLabels(seed=seed) for seed in range(6)]
    jobs = {
        "depth 1": client.estimate(FullyConnected(depth=1), _DIGITS, labellings),
        "depth 4": client.estimate(FullyConnected(depth=4), _DIGITS, labellings),
        "bounds": client.bound(FullyConnected(), _DIGITS, labellings[:2], sizes=[20, 50, 100, 200, 300]),
        "posterior": client.posterior(FullyConnected(), _DIGITS, labellings[:1], train=200),
        "samples": client.sample(FullyConnected(width=40), Boolean(bits=5), 100_000, complexities=["lempel-ziv"]),
    }
    for _ in as_completed(jobs.values()):
        pass
    jobs["running"] = client.estimate(
        FullyConnected(depth=3), Digits(n=1400), [RandomLabels(seed=s) for s in range(40)]
    )
    return jobs


def main(folder: Path) -> None:
    """Write all pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = Server(Path(home)).start()
        try:
            with Client(server.url, TOKEN) as client:
                jobs = submit(client)
            browser = playwright.chromium.launch(executable_path=CHROMIUM)
            for theme, width in (("light", 1280), ("dark", 1280), ("narrow", 320)):
                context = browser.new_context(
                    color_scheme="dark" if theme == "dark" else "light", viewport={"width": width, "height": 800}
                )
                page = context.new_page()
                sign_in(page, server.url, TOKEN)
                for name, path in _paths(jobs).items():
                    _take(page, f"{server.url}{path}", folder / f"{name}-{theme}.png")
                context.close()
            browser.close()
        finally:
            server.stop()


def _paths(jobs: dict[str, Any]) -> dict[str, str]:
    pair = f"job={jobs['depth 1'].id}&job={jobs['depth 4'].id}"
    return {
        "jobs": "/",
        "job": f"/jobs/{jobs['depth 1'].id}",
        "bounds": f"/jobs/{jobs['bounds'].id}",
        "posterior": f"/jobs/{jobs['posterior'].id}",
        "samples": f"/jobs/{jobs['samples'].id}",
        "running": f"/jobs/{jobs['running'].id}",
        "compare": f"/compare?{pair}",
        "new": "/new?work=estimates",
    }


def _take(page: Page, url: str, path: Path) -> None:
    page.goto(url)
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
