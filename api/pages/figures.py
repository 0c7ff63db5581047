"""Figures of results as SVG, drawn by matplotlib of the extra ``plots``."""

from __future__ import annotations

import json
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from anyio import CapacityLimiter

from api.jobs.models import Job
from api.problems import Problem
from api.service import Service
from api.work import WORK
from nngp_prior import style
from nngp_prior.client.result_readers import reader_of
from nngp_prior.errors import MissingExtra
from nngp_prior.extras import require_extra
from nngp_prior.schemas import titles
from nngp_prior.schemas.requests import (
    BoundRequest,
    EstimateRequest,
    ExperimentRequest,
    KernelRequest,
    PosteriorRequest,
)
from nngp_prior.schemas.results.experiment import ExperimentResults
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.specs.data import ImageData

RESULTS, KERNEL = "results", "kernel"
NO_PLOTS = 'Figures need matplotlib in the service\'s environment: pip install "nngp-prior[plots]".'
# The style sheet in a figure is its own; a browser that opens the file runs nothing.
FIGURE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Vary": "Cookie",
    "Cache-Control": "private, no-cache",
}
_DRAWN = 1000  # rows drawn; of more, every k-th
_SPECTRUM = 2000  # largest n whose eigenvalues are computed for a figure
_KERNEL_BYTES = 2**31
_KEPT = 32  # figures kept
_DARK = {  # colours on a dark background, by those of nngp_prior.style
    style.INK: "#8fb8e8",
    style.ACCENT: "#ef8f78",
    style.GREEN: "#8cc4b0",
    style.VIOLET: "#c2a3d3",
    style.OCHRE: "#dcbb4e",
    style.BLUE: "#7dbdec",
    "#000000": "#dfe5ec",
    "#808080": "#97a3b0",
    "#ffffff": "#171b21",
}


class Figures:
    """Figures drawn, the last ones kept.

    Args:
        service: the service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._drawing = CapacityLimiter(1)  # matplotlib's pyplot is for one thread at a time

    async def of(self, job: Job, name: str) -> str:
        """Return a figure of a job, drawn in a thread.

        Args:
            job: the job.
            name: ``results`` or ``kernel``.

        Returns:
            SVG.

        Raises:
            Problem: if there is no such figure.
        """
        if not (has_kernel(self._service, job) if name == KERNEL else has_figure(job)):
            raise Problem(404, "not-found", f"Jobs of {job.kind} have no such figure, or not yet.")
        if name == KERNEL:  # of several jobs
            content, facts = self._service.table.request(job.id)
            key = (facts["kernel"], json.dumps(content["dataset"], sort_keys=True))
            return await self.drawn(key, partial(self._draw_kernel, job))
        return await self.drawn((job.id, version_of(job, name)), partial(self._draw_results, job))

    async def drawn(self, key: tuple[str, ...], draw: Callable[[Path], object]) -> str:
        """Return a figure, drawn in a thread unless it is kept.

        Args:
            key: identity of the figure and of its version.
            draw: function that writes it to a path.

        Returns:
            SVG.

        Raises:
            Problem: if matplotlib is not installed.
        """
        if key not in self._kept:
            if not can_draw():
                raise Problem(404, "not-found", NO_PLOTS)
            self._kept[key] = await self._service.in_thread(svg_of, draw, limiter=self._drawing)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _draw_results(self, job: Job, path: Path) -> None:
        request, facts = self._service.table.request(job.id)
        about = WORK[job.kind].document(request, facts)
        rows = [row for _, row in self._service.table.results(job.id, range(0, job.rows, -(-job.rows // _DRAWN)))]
        if job.kind == ExperimentRequest.work:
            rows = [row for _, row in self._service.table.results(job.id, [job.rows - 1])]
        results, height = reader_of(job.kind).all(rows, about), 3.6
        if isinstance(results, PosteriorResults) and len(results) == 1:
            results = results[0].predictive or results  # of one labelling there is more to see
        elif isinstance(results, ExperimentResults):
            height = 1.2 + 0.3 * len(results.verdicts)
        with style.figure(path, "", figsize=(8, height)) as (_, axis):
            results.plot(axis)

    def _draw_kernel(self, job: Job, path: Path) -> None:
        from nngp_prior.cli.plots.kernel import plot_kernel
        from nngp_prior.kernels import inspect

        content, facts = self._service.table.request(job.id)
        request = WORK[job.kind].request.model_validate(content)
        K = self._service.kernels.open(facts["kernel"])
        shown = slice(None, None, -(-len(K) // _SPECTRUM))
        part = np.asarray(K[shown, shown])
        classes, names = None, ()
        dataset: Any = getattr(request, "dataset", None)
        if dataset is not None:
            data = self._service.runner.data(dataset)
            if data.known_classes and len(data.classes) == len(K):
                classes = data.classes[shown]
            names = dataset.class_names if isinstance(dataset, ImageData) else ()
        every = f", every {-(-len(K) // _SPECTRUM)}th" if len(part) < len(K) else ""
        title = f"{titles.network(content['architecture'])}; {len(K):,} {titles.data(content['dataset'])}{every}"
        plot_kernel(path, title, part, inspect(part), classes, names)


def version_of(job: Job, name: str) -> str:
    """Return the version of a figure of a job; kernels do not change."""
    return KERNEL if name == KERNEL else f"{job.attempt}.{job.version}"


def has_figure(job: Job) -> bool:
    """True if results of this kind of work are drawn."""
    return job.kind != KernelRequest.work and job.done > (job.rows - 1 if job.kind == ExperimentRequest.work else 0)


def has_kernel(service: Service, job: Job) -> bool:
    """True if the kernel of a job is in the cache, and its file, which is verified, is read in seconds."""
    if job.kind not in (EstimateRequest.work, BoundRequest.work, PosteriorRequest.work, KernelRequest.work):
        return False
    key = service.table.request(job.id)[1].get("kernel")
    entry = None if key is None else service.kernels.entry(key)
    return entry is not None and entry.finished and entry.header.nbytes <= _KERNEL_BYTES


def can_draw() -> bool:
    """True if matplotlib is installed."""
    try:
        require_extra("plots")
    except MissingExtra:
        return False
    return True


def svg_of(draw: Callable[[Path], object]) -> str:
    """Draw a figure that follows the reader's choice of light or dark colours.

    Args:
        draw: function that writes the figure to a path.

    Returns:
        SVG, without header and metadata.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    rules = "".join(
        f'[style*="{property}: {light}"]{{{property}:{dark}!important}}'
        for light, dark in _DARK.items()
        for property in ("fill", "stroke")
    )
    ink, paper = _DARK["#000000"], _DARK["#ffffff"]
    dark = f"text{{fill:{ink}}}{rules}#patch_1 path{{fill:{paper}!important}}"
    fonts = "text{font-family:system-ui,sans-serif!important}"
    return text.replace(">", f"><style>{fonts}@media (prefers-color-scheme: dark){{{dark}}}</style>", 1)
