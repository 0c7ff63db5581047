"""Calls of a service, shared by commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from nngp_prior.cli.common import output
from nngp_prior.cli.common.parsing import Given, describe
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.job_names import JobNames
from nngp_prior.schemas.specs.data import BlobData, Classes
from nngp_prior.schemas.specs.estimator import Estimator
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.client import Client, RemoteJob
    from nngp_prior.data import Data

R = TypeVar("R")


@contextmanager
def naming_options() -> Iterator[None]:
    """Rename fields to options in errors about names and tags of jobs.

    Raises:
        InvalidInput: for errors raised inside.
    """
    options = {"name": "--name", "tags": "--tag", "add_tags": "--tag", "remove_tags": "--untag"}
    try:
        yield
    except InvalidInput as error:
        option = options.get(error.field.partition(".")[0], error.field)
        raise InvalidInput(option, error.problem, error.remedy) from None


def job_names(name: str | None, tags: Sequence[str] | None) -> dict[str, Any]:
    """Return a valid name and valid tags for the methods of a client.

    Args:
        name: value of ``--name``.
        tags: values of ``--tag``.

    Returns:
        ``name`` and ``tags``.

    Raises:
        InvalidInput: if one is invalid.
    """
    with naming_options():
        return JobNames.of(name, tags).model_dump()


@dataclass(frozen=True)
class ServiceOptions:
    """Service that computes instead of this process, and the name and the tags of its job."""

    url: Annotated[
        str | None,
        typer.Option(
            "--url", envvar="NNGP_URL", help="URL of a service that does the computation instead of this process"
        ),
    ] = None
    job_name: Annotated[
        str | None, typer.Option("--name", help="with --url: name of the job; replaces its earlier name")
    ] = None
    job_tags: Annotated[
        list[str] | None, typer.Option("--tag", help="with --url: tag to add to the job; may be repeated")
    ] = None

    def __post_init__(self) -> None:
        for flag, value in (("--name", self.job_name), ("--tag", self.job_tags)):
            if value not in (None, []) and self.url is None:
                raise InvalidInput(flag, "means nothing without --url", "Add that (or NNGP_URL), or leave it out.")
        job_names(self.job_name, self.job_tags)  # refuses invalid ones before anything is uploaded

    @property
    def names(self) -> dict[str, Any]:
        """``name`` and ``tags`` for the methods of a client."""
        return job_names(self.job_name, self.job_tags)


IN_PROCESS = ServiceOptions()


class Asked(NamedTuple):
    """Inputs and labels as arguments of a client's methods.

    Attributes:
        dataset: specification of the data set.
        labellings: specifications, or rows of labels.
        names: names of the labellings.
        known_classes: classes of the data, if labellings are classes.
    """

    dataset: Any
    labellings: list[Any]
    names: list[str]
    known_classes: Sequence[int]


def asked(client: Client, given: Given, estimator: Estimator) -> Asked:
    """Prepare inputs and labels for a service; files are uploaded.

    Args:
        client: client of the service.
        given: source of inputs and labels.
        estimator: estimator; its ``classes`` determine if labels in a file are classes.

    Returns:
        inputs and labels for the client.
    """
    from nngp_prior.data import read_labels

    require_default("kernel-file", given.kernel_file, None)
    data = None
    dataset, labellings = given.specified()
    if dataset is None:
        dataset, data = uploaded(client, given)
    if given.labels_file is not None:
        named = read_labels(given.labels_file)
        return Asked(dataset, [row for _, row in named], [name for name, _ in named], ())
    if data is None:
        by_class = any(isinstance(each, Classes) for each in labellings)
        known = client.describe(dataset)["classes"] if by_class else ()
        return Asked(dataset, list(labellings), [describe(each) for each in labellings], known)
    if not labellings:
        named = given.named_labels(data, [], estimator)
        return Asked(dataset, [row for _, row in named], [name for name, _ in named], ())
    return Asked(dataset, list(labellings), [describe(each) for each in labellings], data.known_classes)


def uploaded(client: Client, given: Given) -> tuple[BlobData, Data]:
    """Upload inputs from a file, with their labels as classes.

    Args:
        client: client of the service.
        given: source of inputs and labels.

    Returns:
        specification of the inputs, and contents of the file.
    """
    from nngp_prior.data import load_file

    assert given.inputs_file is not None
    data = load_file(given.inputs_file, "none")
    dataset = BlobData(
        sha256=client.upload(data.images),
        classes=client.upload(data.classes) if data.known_classes else None,
        preprocessing=given.preprocessing,  # pyright: ignore[reportArgumentType]  pydantic checks it
    )
    return dataset, data


def waited_for(job: RemoteJob[R]) -> R:
    """Wait for a job's results; if interrupted, the job keeps running."""
    return all_waited_for([job])[0]


def all_waited_for(jobs: Sequence[RemoteJob[R]]) -> list[R]:
    """Wait for the results of jobs, in order; if interrupted, the jobs keep running."""
    found: list[R] = []
    try:
        for job in jobs:
            with output.ProgressBars() as bars:
                found.append(job.result(progress=bars.bar(job.last.title, rows=True)))
    except KeyboardInterrupt:
        left = jobs[len(found) :]
        which = (
            "The job keeps running" if len(left) == 1 else f"{number_of(len(left), 'job')} keep running, this one first"
        )
        output.note(f"{which}: nngp-prior jobs watch {left[0].id[:12]}, or dismiss.")
        raise
    return found


def require_default(name: str, value: object, default: object) -> None:
    """Refuse an option that a service does not support.

    Raises:
        InvalidInput: if its value differs from its default.
    """
    if value != default:
        raise InvalidInput(f"--{name}", "means nothing to a service", "Leave it out, or --url (and unset NNGP_URL).")
