"""Execution of requests for draws, which have a single result."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior.data.complexity import complexity
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.numerics.whole_files import trim
from nngp_prior.prior.sampling.counts import FunctionCounts
from nngp_prior.prior.sampling.sample import sample_functions
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import SampleRequest
from nngp_prior.schemas.results.sample import function_row
from nngp_prior.schemas.specs.data import Boolean
from nngp_prior.versions import versions

_MOST_LABELS = 2**21  # maximum number of labels in all listed functions
_KEPT_BYTES = 10**10  # maximum total size of unfinished samples


def require_samples(request: SampleRequest, n: int) -> None:
    """Refuse a request whose result would be too large, or whose complexity measure does not apply.

    Args:
        request: request for draws.
        n: number of inputs.

    Raises:
        InvalidInput: if there are too many functions, or a complexity of other than Boolean functions is requested.
    """
    if request.top * n > _MOST_LABELS:
        raise InvalidInput("top", f"{request.top:,} functions of {n:,} inputs", f"Use at most {_MOST_LABELS // n:,}.")
    whole = isinstance(request.dataset, Boolean) and request.dataset.n is None
    if "critical-sample-ratio" in request.complexities and not whole:
        problem = "critical-sample-ratio is of functions of all bits, in their order"
        raise InvalidInput("complexities", problem, "Use the data set boolean, without n, or another measure.")


def sample_row(
    request: SampleRequest, X: np.ndarray, unfinished: Path | None = None, progress: ProgressCallback = ignore
) -> dict[str, Any]:
    """Draw, count, and list the most frequent functions.

    Args:
        request: request for draws.
        X: (n, …) inputs of the request.
        unfinished: folder in which draws are kept until the request is done; the same request resumes from them unless
            they are damaged.
        progress: progress callback, called with the number of draws.

    Returns:
        JSON-compatible results: ``draws``, ``functions`` (number of distinct ones), ``undecided`` and ``zeros`` (draws
        with an output that is exactly 0, in all and per input), ``seconds``, and ``top``.

    Raises:
        InvalidInput: if the request cannot be executed.
    """
    require_samples(request, len(X))
    path = None if unfinished is None else _file(unfinished, request)
    began = time.perf_counter()
    counts = sample_functions(
        request.architecture,
        X,
        request.networks,
        seed=request.seed,
        source=request.source,
        path=path,
        progress=progress,
    )
    seconds = time.perf_counter() - began
    top = [
        function_row(*function, {name: complexity(name, function.labels) for name in request.complexities})
        for function in counts.top(request.top)
    ]
    if path is not None:
        path.unlink(missing_ok=True)
    return {
        "status": "ok",
        "message": "",
        "draws": counts.draws,
        "functions": len(counts),
        "undecided": counts.undecided,
        "zeros": counts.zeros.tolist(),
        "seconds": round(seconds, 3),
        "top": top,
    }


def _file(folder: Path, request: SampleRequest) -> Path:
    """Return the path of the draws from which a request resumes; a damaged file is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = request.model_dump(mode="json", exclude={"top", "complexities"})
    content = json.dumps([drawn, versions()], sort_keys=True, separators=(",", ":"))
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()}.npz"
    trim(folder, _KEPT_BYTES, keep=path)  # limited by size, not by age: the clock may be wrong
    try:
        FunctionCounts.load(path)
    except DataUnavailable:
        path.unlink(missing_ok=True)
    return path
