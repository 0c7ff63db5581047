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
from tests.system.server import TOKEN, Server, wait_for

_DIGITS = Digits(n=300)


# Path of each page, and the themes that it is taken in.
_TAKEN = {
    "jobs": ("light", "narrow"),
    "job": ("light",),
    "compare": ("dark",),
    "new": ("light", "narrow"),
}
_SCREEN = {"light": (1300, 560), "dark": (1300, 560), "narrow": (320, 640)}


def submit(client: Client) -> dict[str, Any]:
    """Submit the jobs that are shown, and wait for all but the last; return them by page."""
    true, corrupted = Threshold(at=5), Threshold(at=5, corruption=Randomise(probability=0.2))
    labellings = [true, corrupted, *(RandomLabels(seed=seed) for seed in range(6))]
    tagged: dict[str, Any] = {"tags": ["digits"]}
    jobs = {
        "job": client.estimate(FullyConnected(depth=1), _DIGITS, labellings, name="depth 1", **tagged),
        "other": client.estimate(FullyConnected(depth=4), _DIGITS, labellings, name="depth 4", **tagged),
        "bounds": client.bound(FullyConnected(), _DIGITS, labellings[:2], sizes=[20, 50, 100, 200, 300], **tagged),
        "posterior": client.posterior(FullyConnected(), _DIGITS, [true], train=200, **tagged),
        "samples": client.sample(FullyConnected(width=40), Boolean(bits=5), 100_000, name="functions of 5 bits"),
    }
    for _ in as_completed(jobs.values()):
        pass
    many = [RandomLabels(seed=seed) for seed in range(40)]
    jobs["running"] = client.estimate(FullyConnected(depth=3), Digits(n=1400), many, name="random labels")
    wait_for(lambda: jobs["running"].status().current > 3, 200)
    return jobs


def main(folder: Path) -> None:
    """Write all pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = Server(Path(home)).start()
        try:
            with Client(server.url, TOKEN) as client:
                paths = _paths(submit(client))
            browser = playwright.chromium.launch(executable_path=CHROMIUM)
            for theme, (width, height) in _SCREEN.items():
                colours = "dark" if theme == "dark" else "light"
                page = browser.new_page(color_scheme=colours, viewport={"width": width, "height": height})
                sign_in(page, server.url, TOKEN)
                for name in (name for name, themes in _TAKEN.items() if theme in themes):
                    page.goto(f"{server.url}{paths[name]}")
                    _take(page, folder / f"page-{name}-{theme}.png", theme != "narrow" and name != "new")
            browser.close()
        finally:
            server.stop()


def _paths(jobs: dict[str, Any]) -> dict[str, str]:
    return {
        "jobs": "/",
        "job": f"/jobs/{jobs['job'].id}",
        "compare": f"/compare?job={jobs['job'].id}&job={jobs['other'].id}",
        "new": "/new",
    }


def _take(page: Page, path: Path, whole: bool) -> None:
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
