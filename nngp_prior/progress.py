"""Progress of long computations: one typed event, one callback, and their display on standard error.

Functions with an argument ``progress`` take True (show it), a callback, or nothing. Bars are drawn on a terminal and in
a notebook, where they are one output of the cell; elsewhere, as in the log of a batch job, the expected cost is printed
first and then one line every 30 seconds.
"""

from __future__ import annotations

import html
import importlib
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from typing_extensions import override

from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.text import duration

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 30.0  # seconds between lines
_REDRAWN = 0.25  # seconds between two states of a notebook's bars
_LONG = 10.0  # seconds; the cost of shorter work is not printed


@dataclass(frozen=True)
class Progress:
    """Progress event.

    Attributes:
        stage: name of the stage.
        done: finished units of the stage.
        total: number of its units; ``done == total`` ends it.
        cost: expected cost of the whole computation, in an event before it begins; None in all others.
        at_most: True if the computation may end before ``total``, so that ``cost`` is an upper limit.
    """

    stage: str
    done: int
    total: int
    cost: Cost | None = None
    at_most: bool = False


ProgressCallback = Callable[[Progress], None]
ProgressOption = bool | ProgressCallback | None


def ignore(_: Progress) -> None:
    """No-op progress callback."""


def without_cost(progress: ProgressCallback) -> ProgressCallback:
    """Return a callback for a part of a computation whose total cost was reported before.

    Args:
        progress: callback of the whole.

    Returns:
        a callback that drops the cost events.
    """

    def tell(event: Progress) -> None:
        if event.cost is None:
            progress(event)

    return tell


@contextmanager
def shown(progress: ProgressOption, title: str, *, rows: bool = False) -> Iterator[ProgressCallback]:
    """Open a display if requested.

    Args:
        progress: True for a display on standard error, a callback, or False or None for neither.
        title: title of the computation in the display.
        rows: as for :meth:`Display.bar`.

    Yields:
        the callback for the computation.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield ignore
    else:
        with Display() as display:
            yield display.bar(title, rows=rows)


class Display:
    """Progress on standard error: bars on a terminal and in a notebook, lines elsewhere.

    Args:
        console: rich console of standard error; default: a new one.
        quiet: show nothing.
        every: seconds between lines.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, every: float = EVERY) -> None:
        self._backend: _Backend
        if quiet:
            self._backend = _Nothing()
            return
        from rich.console import Console

        console = console or Console(stderr=True)
        if console.is_jupyter:
            self._backend = _Cell()
        else:
            self._backend = _Bars(console) if console.is_terminal else _Lines(every)

    def bar(self, title: str, *, rows: bool = False) -> ProgressCallback:
        """Add a computation.

        Args:
            title: title of its bar or lines.
            rows: True if the first stage counts rows, such as a job's, and others are stages within a row.

        Returns:
            its callback.
        """
        task = _Task(title, rows)
        self._backend.add(task)

        def tell(event: Progress) -> None:
            if task.take(event):
                self._backend.say(f"{title}: {_expected(event)}")
            self._backend.update(task)

        return tell

    def __enter__(self) -> Self:
        self._backend.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.stop()


@dataclass(eq=False)
class _Task:
    """State of a computation: its main event, the stage within a row, and the last expected cost with its time."""

    title: str
    rows: bool
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    event: Progress | None = None
    within: Progress | None = None
    expected: Progress | None = None
    expected_at: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.clock()

    def take(self, event: Progress) -> bool:
        """Record an event; True if its cost is to be printed."""
        if self.rows and self.event is not None and event.stage != self.event.stage:
            self.within = event
        else:
            self.event, self.within = event, None
        if event.cost is None:
            return False
        self.expected, self.expected_at = event, self.clock()
        return event.cost.seconds >= _LONG

    def line(self) -> str:
        """Return a line with stage, units done and time."""
        seconds = self.clock() - self.began
        parts = [] if self.event is None else [_counted(self.event)]
        parts += [] if self.within is None else [_counted(self.within)]
        parts += [duration(seconds), *self._left()]
        return f"{self.title}: {', '.join(parts)}"

    def _left(self) -> list[str]:
        """Return the time left: extrapolated from the stage with the expected cost once some of it is done."""
        expected = self.expected
        if expected is None or expected.cost is None or expected.at_most:
            return []
        seconds = self.clock() - self.expected_at
        stage = next((each for each in (self.event, self.within) if each and each.stage == expected.stage), expected)
        done = stage.done - expected.done  # a resumed computation begins above 0
        left = seconds * (stage.total - stage.done) / done if done > 0 else expected.cost.seconds - seconds
        return [f"about {duration(left)} left"] if left > 0 else []


class _Backend(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def add(self, task: _Task) -> None: ...
    def update(self, task: _Task) -> None: ...
    def say(self, text: str) -> None: ...


class _Nothing:
    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def add(self, task: _Task) -> None:
        pass

    def update(self, task: _Task) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class _Repeated(ABC):
    """Shows the computations at regular intervals, from a thread of its own.

    Args:
        every: seconds between two times.
    """

    def __init__(self, every: float) -> None:
        self._every, self._tasks = every, list[_Task]()
        self._last: _Task | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def add(self, task: _Task) -> None:
        self._tasks.append(task)
        self._last = task

    def update(self, task: _Task) -> None:
        self._last = task

    @abstractmethod
    def _show(self) -> None:
        """Show the computations."""

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            self._show()


class _Lines(_Repeated):
    """Prints a line on the computation that was added or reported last."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @override
    def _show(self) -> None:
        if self._last is not None:
            self.say(self._last.line())


class _Cell(_Repeated):
    """One output of a notebook's cell, with a bar per computation.

    IPython replaces it, since rich's bars need ipywidgets.
    """

    def __init__(self) -> None:
        super().__init__(_REDRAWN)
        self._said: list[str] = []
        self._shown: Any = None

    @override
    def start(self) -> None:
        display: Any = importlib.import_module("IPython.display").display
        self._shown = display(self._state(), raw=True, display_id=True)
        super().start()

    @override
    def stop(self) -> None:
        super().stop()
        self._show()

    def say(self, text: str) -> None:
        self._said.append(text)

    @override
    def _show(self) -> None:
        self._shown.update(self._state(), raw=True)

    def _state(self) -> dict[str, str]:
        """Return all bars, as plain text and as HTML."""
        lines = [(task.line(), task.event) for task in self._tasks]
        drawn = [f"{html.escape(text)}<br>" for text in self._said]
        drawn += [f"{_progress_bar(event)} {html.escape(line)}<br>" for line, event in lines]
        return {"text/plain": "\n".join([*self._said, *(line for line, _ in lines)]), "text/html": "".join(drawn)}


def _progress_bar(event: Progress | None) -> str:
    return (
        "<progress></progress>" if event is None else f'<progress value="{event.done}" max="{event.total}"></progress>'
    )


class _Bars:
    """One bar per computation."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:<34}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[stage]:<14}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._numbers: dict[_Task, int] = {}

    def start(self) -> None:
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    def add(self, task: _Task) -> None:
        title = task.title.replace("[", "\\[")
        self._numbers[task] = int(self._bars.add_task(title, total=None, stage=""))

    def update(self, task: _Task) -> None:
        event = task.event
        if event is not None:
            stage = event.stage if task.within is None else _counted(task.within)
            number: Any = self._numbers[task]
            self._bars.update(number, completed=event.done, total=event.total, stage=stage)

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _counted(event: Progress) -> str:
    return f"{event.stage} {event.done:,} of {event.total:,}"


def _expected(event: Progress) -> str:
    """Expected cost of a computation, in words."""
    if event.cost is None or not event.at_most:
        return f"expected: {event.cost}"
    each = Cost(event.cost.bytes, event.cost.seconds / event.total)
    return f"expected: at most {event.total:,} {event.stage} in {duration(event.cost.seconds)}, each {each}"
