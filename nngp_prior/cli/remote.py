"""What commands have that call a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nngp_prior.cli import output
from nngp_prior.cli.problems import describe, labels_from, parse_labelling, parse_problem
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.data import BlobData, Classes, Labelling
from nngp_prior.schemas.estimator import Estimator
from nngp_prior.schemas.result import Results

if TYPE_CHECKING:
    from nngp_prior.client import Client, RemoteJob

R = TypeVar("R")
Url = Annotated[
    str | None, typer.Option("--url", envvar="NNGP_URL", help="of a service that computes it instead of this process")
]


def labelled_data(
    client: Client,
    fields: dict[str, Any],
    classes: str | None,
    texts: list[str],
    corruption: tuple[str | None, int],
    labels: Path | None,
) -> tuple[Any, Any, list[str], Sequence[int]]:
    """A data set and labellings of it, as the client takes them, the labellings' names, and the classes that matter."""
    dataset, specifications = parse_problem(fields, classes, texts, *corruption)
    if labels is not None:
        return dataset, *_rows(labels), ()
    by_classes = any(isinstance(each, Classes) for each in specifications)
    known = client.describe(dataset)["classes"] if by_classes else ()
    return dataset, specifications, [describe(each) for each in specifications], known


def labelled_inputs(
    client: Client,
    path: Path,
    preprocessing: str,
    texts: list[str],
    corruption: tuple[str | None, int],
    labels: Path | None,
) -> tuple[Any, Any, list[str], Sequence[int]]:
    """Inputs from a file, uploaded, and the rest as for a data set; as for files in process."""
    from nngp_prior.data import load_file

    loaded = load_file(path, "none")
    known = loaded.known_classes
    specifications: list[Labelling] = [parse_labelling(text, *corruption) for text in texts]
    dataset = BlobData(
        sha256=client.upload(loaded.images),
        classes=client.upload(loaded.classes) if known else None,
        preprocessing=preprocessing,  # pyright: ignore[reportArgumentType]  pydantic checks it
    )
    if labels is None and specifications:
        return dataset, specifications, [describe(each) for each in specifications], known
    if labels is None and known and set(known) <= {-1, 1}:
        return dataset, loaded.classes, [path.name], known
    return dataset, *_rows(labels), known


def _rows(path: Path | None) -> tuple[list[Any], list[str]]:
    named = labels_from(path)
    return [row for _, row in named], [name for name, _ in named]


def estimated(
    client: Client, architecture: Architecture, problem: tuple[Any, Any], estimator: Estimator, seed: int
) -> Results:
    """Results of a service."""
    options = estimator.model_dump(exclude={"kind"}, exclude_unset=True)
    return waited_for(client.estimate(architecture, *problem, method=estimator.kind, seed=seed, **options))


def waited_for(job: RemoteJob[R]) -> R:
    """Results of a job, which goes on where the wait for it is interrupted."""
    return all_waited_for([job])[0]


def all_waited_for(jobs: Sequence[RemoteJob[R]]) -> list[R]:
    """Results of jobs, in their order; they go on where the wait for them is interrupted."""
    found: list[R] = []
    try:
        for job in jobs:
            with output.ProgressBars() as bars:
                found.append(job.result(bars.bar(f"job {job.id[:12]}", rows=True)))
    except KeyboardInterrupt:
        left = jobs[len(found) :]
        which = "The job goes on" if len(left) == 1 else f"{len(left)} jobs go on, this one first"
        output.note(f"{which}: nngp-prior jobs watch {left[0].id[:12]}, or dismiss.")
        raise
    return found


def require_default(name: str, value: object, default: object) -> None:
    """Refuse an option that a service does not take.

    Raises:
        InvalidInput: it has another value than its default.
    """
    if value != default:
        raise InvalidInput(f"--{name}", "means nothing to a service", "Leave it out, or --url (and unset NNGP_URL).")
