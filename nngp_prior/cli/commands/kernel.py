"""``nngp-prior kernel compute | inspect | plot | list | evict``: kernel matrices, in files and in the cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.table import Table

from nngp_prior.cli.common import options, output
from nngp_prior.cli.common.command import App
from nngp_prior.cli.common.parsing import Given, parse_dataset
from nngp_prior.errors import InvalidInput, NngpPriorError
from nngp_prior.progress import Progress
from nngp_prior.schemas import titles
from nngp_prior.schemas.specs.data import ImageData
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.kernels.tile_journal import JournalHeader

app = App(help="Compute, inspect and plot kernel matrices, and manage their cache.")
_IGNORED = {"inputs_file": options.OF_DATA, "monte_carlo": ("get", "dtype")}
_SOURCE_HELP = ".npy file, or key of a cached kernel (its first characters suffice)"
Source = Annotated[str, typer.Argument(help=_SOURCE_HELP, show_default=False)]


class _Matrix(NamedTuple):
    """Kernel matrix with its name and metadata."""

    K: np.ndarray
    name: str
    header: JournalHeader | None


@app.command()
def compute(
    context: typer.Context,
    data: options.DataOptions,
    architecture: options.MonteCarloArchitectureOptions,
    inputs_file: options.InputsFile = None,
    get: Annotated[str, typer.Option(help="kernel: nngp or ntk")] = "nngp",
    dtype: options.Dtype = "float64",
    out: Annotated[Path | None, typer.Option(help=".npy file for the matrix, instead of the cache")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Compute the kernel of an architecture on a data set; an interrupted computation resumes when repeated."""
    network, monte_carlo = architecture.specification(), architecture.monte_carlo
    options.refuse_ignored(context, _IGNORED)
    from nngp_prior.kernels import KernelCache, KernelJob
    from nngp_prior.kernels.disk import on_disk
    from nngp_prior.prior.request_context import inputs_of

    loaded, source, _ = Given.of(data, network, inputs_file=inputs_file).loaded()
    X = inputs_of(loaded, network)
    if monte_carlo is not None:
        from nngp_prior.cli.common.monte_carlo import write_monte_carlo

        write_monte_carlo(network, X, monte_carlo, out, source, json)
        return
    job = KernelJob.of(network, X, None, get, dtype)
    cache = KernelCache()
    if out is None and job.nbytes > cache.limit:
        problem = f"is missing, and {_size(job.nbytes)} are more than the cache may take ({_size(cache.limit)})"
        raise InvalidInput("--out", problem, "Name a .npy file, or set NNGP_CACHE_BYTES.")
    began, computed = time.perf_counter(), 0
    with output.ProgressBars() as bars:
        bar = bars.bar(f"kernel of {len(job.X):,} inputs")

        def count(event: Progress) -> None:
            nonlocal computed
            computed += event.cost is None
            bar(event)

        if out is not None:
            on_disk(job, out, count, about=source)
        else:
            cache.of(job, count, source)
    document = {
        "kernel": job.key,
        "n": len(job.X),
        **job.description,
        "dtype": dtype,
        **source,
        "file": None if out is None else str(out),
        "bytes": job.nbytes,
        "tiles_computed": computed,
        "seconds": round(time.perf_counter() - began, 3),
        "versions": versions(),
    }
    if json:
        output.print_json(document)
        return
    where = str(out) if out is not None else f"cache, key {job.key[:12]}"
    how = f"tiles computed: {computed}, {document['seconds']:.1f} s" if computed else "was there already"
    size = f"{len(job.X):,} × {len(job.X):,} {get} ({dtype}, {_size(job.nbytes)})"
    output.console.print(f"{size}: {where}; {how}", soft_wrap=True, highlight=False)


@app.command()
def inspect(source: Source, json: options.Json = False) -> None:
    """Show the spectrum of a kernel, and which inputs determine each other's labels."""
    from nngp_prior.kernels import inspect as look_at

    matrix = _matrix(source)
    found = look_at(matrix.K)
    spectrum = found.eigenvalues
    quantities = {
        "n": found.n,
        "dtype": str(matrix.K.dtype),
        "symmetric": found.symmetric,
        "asymmetry": found.asymmetry,
        "trace": found.trace,
        "smallest_variance": found.smallest_variance,
        "largest_variance": found.largest_variance,
        "largest_eigenvalue": float(spectrum[0]),
        "smallest_eigenvalue": float(spectrum[-1]),
        "condition": found.condition,
        "rank": found.rank,
        "effective_rank": found.effective_rank,
        "singular": found.singular,
        "tied": found.tied,
    }
    pairs = [{"inputs": [i, j], "correlation": sign} for i, j, sign in found.tied_pairs]
    if json:
        known = {} if matrix.header is None else {"kernel": matrix.header.key, **matrix.header.about}
        more = {"tied_pairs": pairs, "eigenvalues": spectrum.tolist()}
        output.print_json({"source": matrix.name, **known, **quantities, **more})
        return
    output.console.print(_title(matrix), soft_wrap=True, highlight=False)
    table = Table("", "", box=None, show_header=False)
    for name, value in quantities.items():
        shown = f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
        table.add_row(name.replace("_", " "), shown)
    output.print_table(table)
    if found.singular:
        output.note("Singular to rounding: some labellings are impossible or need a jitter.")
    for pair in pairs:
        i, j = pair["inputs"]
        output.note(f"Inputs {i} and {j} have correlation {pair['correlation']:+d} and determine each other's label.")
    if found.tied > len(pairs):
        output.note(f"… and {found.tied - len(pairs):,} more pairs.")


@app.command()
def plot(
    source: Source,
    out: options.PlotFile = Path("kernel.png"),
    json: options.Json = False,
) -> None:
    """Draw a kernel: correlations sorted by class, and the spectrum."""
    output.require_plots("--out", out)
    from nngp_prior.cli.plots.kernel import plot_kernel
    from nngp_prior.kernels import inspect as look_at

    matrix = _matrix(source)
    found = look_at(matrix.K)
    classes, names = _classes(matrix)
    plot_kernel(out, _title(matrix), matrix.K, found, classes, names)
    document = {"source": matrix.name, "plot": str(out), "n": found.n, "sorted_by_class": classes is not None}
    if json:
        output.print_json(document)
    else:
        output.console.print(f"Plot: {out}")


@app.command("list")
def list_(csv: options.Csv = False, json: options.Json = False) -> None:
    """List cached kernels, most recently used first."""
    from nngp_prior.kernels import KernelCache

    cache = KernelCache()
    entries = cache.entries()
    total = sum(entry.bytes for entry in entries)
    if json or csv:
        rows = [entry.document for entry in entries]
        document = {"folder": str(cache.folder), "limit": cache.limit, "bytes": total, "entries": rows}
        output.print_rows(document, "entries", csv=csv)
        return
    table = Table("key", "n", "kernel", "of", "size", "last use", box=None, header_style="bold", pad_edge=False)
    for entry in entries:
        about = entry.header.about
        table.add_row(
            entry.header.key[:12],
            f"{entry.header.grid.n:,}",
            f"{about['get']} {titles.network(about['architecture'])}",
            _inputs(about),
            _size(entry.bytes) + ("" if entry.finished else " (unfinished)"),
            f"{entry.last_use.astimezone():%Y-%m-%d %H:%M}",
        )
    output.print_table(table)
    output.console.print(f"{_size(total)} of {_size(cache.limit)} in {cache.folder}", soft_wrap=True)


@app.command()
def evict(
    limit: Annotated[
        int | None,
        typer.Option("--bytes", min=0, help="maximum size of the cache afterwards [NNGP_CACHE_BYTES]; 0 removes all"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Remove the least recently used kernels; those in use stay."""
    from nngp_prior.kernels import KernelCache

    removed = KernelCache().evict(limit)
    if json:
        output.print_json({"removed": [entry.document for entry in removed]})
    else:
        output.console.print(
            f"{number_of(len(removed), 'kernel')} removed, {_size(sum(entry.bytes for entry in removed))}"
        )


def _matrix(source: str) -> _Matrix:
    from nngp_prior.data.npy import read_npy
    from nngp_prior.kernels import KernelCache
    from nngp_prior.kernels.tile_journal import header_beside

    if source.endswith(".npy"):
        path = Path(source)
        return _Matrix(read_npy(path), path.name, header_beside(path))
    cache = KernelCache()
    entry = cache.find(source)
    return _Matrix(cache.open(entry.header.key), entry.header.key[:12], entry.header)


def _classes(matrix: _Matrix) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the classes of the inputs and their names; None and () if the data set is unknown."""
    about = {} if matrix.header is None else matrix.header.about
    if "dataset" not in about:
        return None, ()
    from nngp_prior.data import load

    try:
        dataset = parse_dataset(about["dataset"])
        return load(dataset).classes, dataset.class_names if isinstance(dataset, ImageData) else ()
    except NngpPriorError as error:
        output.note(f"Not sorted by class: {error}")
        return None, ()


def _title(matrix: _Matrix) -> str:
    if matrix.header is None:
        return f"kernel of {len(matrix.K):,} inputs"
    about = matrix.header.about
    inputs, n = titles.data(about.get("dataset")), matrix.header.grid.n
    return f"{about['get'].upper()} kernel of {n:,} {inputs}, {titles.network(about['architecture'])}"


def _inputs(about: dict[str, Any]) -> str:
    return titles.data(about["dataset"]) if "dataset" in about else Path(about.get("inputs", "inputs")).name


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
