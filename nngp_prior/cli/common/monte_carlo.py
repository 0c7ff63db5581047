"""``nngp-prior kernel compute --monte-carlo``: kernel of random networks, and its standard errors, in files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior.cli.common import output
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels.disk import require_place
from nngp_prior.kernels.monte_carlo import monte_carlo_kernel
from nngp_prior.numerics.whole_files import written_whole
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.kernel import MonteCarlo
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions


def write_monte_carlo(
    architecture: Architecture, X: np.ndarray, networks: int, out: Path | None, source: dict[str, Any], json: bool
) -> None:
    """Compute K̃ and its standard errors, and write them to files.

    Args:
        architecture: architecture of the networks.
        X: inputs, (n, …).
        networks: number of networks.
        out: file ``K.npy``; standard errors are written to ``K-stderr.npy``.
        source: description of the inputs.
        json: True to print JSON.

    Raises:
        InvalidInput: if no file is named (the cache holds analytic kernels), or the file exists.
    """
    if out is None:
        raise InvalidInput("--out", "is missing, and the cache holds no Monte Carlo kernels", "Name a .npy file.")
    require_place(out)
    errors = out.with_name(f"{out.stem}-stderr.npy")
    for path in (out, errors):
        if path.exists():
            raise InvalidInput("--out", f"{path} exists", "Remove it, or name another file.")
    specification = MonteCarlo(networks=networks)
    began = time.perf_counter()
    with output.ProgressBars() as bars:
        found = monte_carlo_kernel(architecture, X, specification, progress=bars.bar(f"kernel of {len(X):,} inputs"))
    for path, matrix in ((out, found.K), (errors, found.stderr)):
        with written_whole(path) as file:
            np.save(file, matrix)
    document = {
        "n": len(X),
        "monte_carlo": specification.model_dump(mode="json"),
        "architecture": architecture.model_dump(mode="json"),
        "input_shape": list(X.shape[1:]),
        **source,
        "file": str(out),
        "stderr_file": str(errors),
        "rank": found.rank,
        "rank_limit": found.rank_limit,
        "condition": found.condition,
        "seconds": round(time.perf_counter() - began, 3),
        "versions": versions(),
    }
    if json:
        output.print_json(document)
        return
    size = f"{len(X):,} × {len(X):,}, mean over {number_of(networks, 'network')}"
    output.console.print(f"{size}: {out}, standard errors: {errors}; {document['seconds']:.1f} s", soft_wrap=True)
    if found.rank < len(X):
        output.note(f"Rank {found.rank:,} of {len(X):,}: almost every labelling has P = 0. Use more networks.")
