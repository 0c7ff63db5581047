"""Display of progress: bars on a terminal, the expected cost and a line at intervals elsewhere."""

import io
import re
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from nngp_prior import FullyConnected, kernel
from nngp_prior.progress import Display, Progress, _Task, ignore, shown, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.text import duration, number_of, size


def _until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing was printed for ten seconds")


def test_a_log_gets_the_cost_first_and_then_lines(capsys: pytest.CaptureFixture[str]) -> None:
    text = ""

    def printed() -> bool:
        nonlocal text
        text += capsys.readouterr().err
        return text.count("\n") >= 3

    with Display(every=0.02) as display:
        tell = display.bar("kernel of 9 inputs")
        tell(Progress("kernel tiles", 0, 40, Cost(1_200_000_000, 134.0)))
        tell(Progress("kernel tiles", 10, 40))
        _until(printed)
    first, second = text.splitlines()[:2]
    assert first == "kernel of 9 inputs: expected: about 2.2 min, 1.2 GB"
    assert re.fullmatch(r"kernel of 9 inputs: kernel tiles 10 of 40, \S+ s, about \S+ s left", second)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_rows_and_the_stage_within_a_row_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    text = ""

    def printed() -> bool:
        nonlocal text
        text += capsys.readouterr().err
        return text.count("\n") >= 2

    with Display(every=0.02) as display:
        tell = display.bar("training", rows=True)
        tell(Progress("networks", 0, 2))
        tell(Progress("epochs", 0, 1000, Cost(300_000_000, 400.0), at_most=True))
        tell(Progress("networks", 1, 2))
        tell(Progress("epochs", 12, 1000))
        _until(printed)
    first, second = text.splitlines()[:2]
    assert first == "training: expected: at most 1,000 epochs in 6.7 min, each about 0.4 s, 300 MB"
    assert second.startswith("training: networks 1 of 2, epochs 12 of 1,000, ")


def _line(*events: tuple[float, Progress], at: float, rows: bool = False) -> str:
    """The line of a computation whose events came at given seconds."""
    now = [0.0]
    task = _Task("job", rows, lambda: now[0])
    for now[0], event in events:
        task.take(event)
    now[0] = at
    return task.line()


def test_the_time_left_is_extrapolated_from_the_stage_with_the_cost() -> None:
    """Within a row: no row has ended, and the cost was estimated too low."""
    epochs = (Progress("epochs", 0, 3000, Cost(10**8, 36.0)), Progress("epochs", 1000, 3000))
    rows = Progress("networks", 0, 8)
    line = _line((0.0, rows), (0.0, epochs[0]), (30.0, rows), (30.0, epochs[1]), at=30.0, rows=True)
    assert line == "job: networks 0 of 8, epochs 1,000 of 3,000, 30 s, about 60 s left"


def test_the_time_left_counts_from_the_cost_on_and_what_was_done_before_does_not() -> None:
    """Ten seconds for something else, then a computation that resumes at 60 of 100."""
    begin, then = Progress("networks", 60, 100, Cost(10**8, 99.0)), Progress("networks", 70, 100)
    line = _line((10.0, begin), (30.0, then), at=30.0)
    assert line == "job: networks 70 of 100, 30 s, about 60 s left"


def test_short_work_and_quiet_displays_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, "kernel") as tell:
        tell(Progress("kernel tiles", 0, 4, Cost(10**6, 1.0)))
        tell(Progress("kernel tiles", 4, 4))
    with Display(quiet=True, every=0.001) as display:
        display.bar("kernel")(Progress("kernel tiles", 0, 4, Cost(10**6, 1000.0)))
        time.sleep(0.01)
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal() -> None:
    screen = io.StringIO()
    with Display(Console(file=screen, force_terminal=True, width=120)) as display:
        tell = display.bar("kernel [9]")
        tell(Progress("kernel tiles", 0, 4, Cost(10**9, 99.0)))
        tell(Progress("kernel tiles", 4, 4))
    text = screen.getvalue()
    assert "kernel [9]: expected: about 99 s, 1 GB" in text
    assert "4/4" in text


def test_the_argument_takes_true_a_callback_or_nothing() -> None:
    events: list[Progress] = []
    X = np.eye(3)
    for progress in (True, False, None, events.append):
        assert kernel(FullyConnected(), X, progress=progress).shape == (3, 3)
    assert (events[0].cost is None, events[-1].done, events[-1].total) == (False, 1, 1)
    without_cost(events.append)(events[0])
    assert len(events) == 2
    with shown(None, "nothing") as tell:
        assert tell is ignore


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration(0.0123), "0.012 s"),
        (duration(9.96), "10 s"),
        (duration(119.0), "119 s"),
        (duration(600.0), "10 min"),
        (duration(90_000.0), "25 h"),
        (size(999.0), "999 B"),
        (size(999_999.0), "1 MB"),
        (size(2.5e12), "2.5 TB"),
        (number_of(1, "network"), "1 network"),
        (number_of(2000, "network"), "2,000 networks"),
    ],
)
def test_times_sizes_and_numbers(text: str, expected: str) -> None:
    assert text == expected


def test_a_notebook_has_one_output_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    """By IPython's own display: without ipywidgets rich would draw nothing there."""
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(data)

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert (raw, display_id, shown) == (True, True, [])
        shown.append(data)
        return Handle()

    monkeypatch.setattr(pytest.importorskip("IPython.display"), "display", display)
    monkeypatch.setattr("nngp_prior.progress._REDRAWN", 0.01)
    with Display(Console(force_jupyter=True)) as display:
        tell = display.bar("kernel of <9> inputs")
        tell(Progress("kernel tiles", 0, 40, Cost(1_200_000_000, 134.0)))
        tell(Progress("kernel tiles", 10, 40))
        _until(lambda: 'value="10"' in shown[-1]["text/html"])
        tell(Progress("kernel tiles", 40, 40))
    first, second = shown[-1]["text/plain"].splitlines()
    assert first == "kernel of <9> inputs: expected: about 2.2 min, 1.2 GB"
    assert second.startswith("kernel of <9> inputs: kernel tiles 40 of 40, ")
    assert '<progress value="40" max="40"></progress> kernel of &lt;9&gt; inputs' in shown[-1]["text/html"]
    assert "progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.slow
def test_progress_of_a_job_is_one_output_of_a_real_notebook() -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    source = """
import numpy as np
from nngp_prior import FullyConnected, LocalClient
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((60, 5)), np.where(rng.standard_normal((40, 60)) > 0, 1, -1)
results = LocalClient().estimate(FullyConnected(), X, Y).result(progress=True)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "labellings 40 of 40" in output.data["text/plain"]
    assert '<progress value="40" max="40">' in output.data["text/html"]
