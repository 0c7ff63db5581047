"""A job's progress, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nngp_prior.progress import Progress, ProgressCallback, ignore


@contextmanager
def bar(progress: bool | ProgressCallback, title: str) -> Iterator[ProgressCallback]:
    """A callback that does what was asked for.

    Args:
        progress: True draws a bar on standard error, False nothing; a callback is taken as it is.
        title: of the bar.

    Yields:
        the callback: of rows, the first stage that it is told of, and of stages beside it.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=None, stage="")
        first: list[str] = []

        def tell(event: Progress) -> None:
            first[:] = first or [event.stage]
            if event.stage == first[0]:
                bars.update(task, completed=event.done, total=event.total, stage=event.stage)
            else:
                bars.update(task, stage=f"{event.stage} {event.done}/{event.total}")

        yield tell
