"""Every function has the results of one process, bit for bit, on any executor."""

from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FromNetwork, MonteCarlo, kernel, log_probabilities, monte_carlo_kernel, sample_functions
from nngp_prior.errors import InvalidInput, InvalidKernel, ResourceLimit
from nngp_prior.progress import Progress
from nngp_prior.sharpness import Training, measure_networks, train
from tests.executors.cases import ARCHITECTURE, CALLS, Failing, Serial, covariance, inputs, labels


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_executor(folder: Path, name: str) -> None:
    executor, events = Serial(), list[Progress]()
    assert CALLS[name](executor, events.append) == CALLS[name](None, None)
    assert executor.submitted > (not name.startswith("sample"))
    assert executor.bytes < 4_000 * executor.submitted
    done = [event.done for event in events if event.stage == events[-1].stage]
    assert done == sorted(done)
    assert events[-1].done == events[-1].total
    if "own" not in name:
        assert any(event.cost is not None for event in events)
    assert list(folder.iterdir()) == []


def test_processes_have_the_results_of_one_process(processes: Executor) -> None:
    for name in ("kernel", "sample_functions", "measure_networks"):
        assert CALLS[name](processes, None) == CALLS[name](None, None), name


def test_a_kernel_in_a_file_is_continued(folder: Path) -> None:
    X, path = inputs(1_030), folder / "K.npy"
    with pytest.raises(ResourceLimit, match="fewer workers"):
        kernel(ARCHITECTURE, X, path=path, executor=Failing(BrokenExecutor("killed")))
    assert not path.exists()

    def stop(event: Progress) -> None:
        if event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernel(ARCHITECTURE, X, path=path, executor=Serial(), progress=stop)
    executor = Serial()
    K = kernel(ARCHITECTURE, X, path=path, executor=executor)
    assert executor.submitted == 2
    assert np.array_equal(K, kernel(ARCHITECTURE, X))
    assert {each.name for each in folder.iterdir()} == {"K.npy", "K.npy.tiles"}


def test_batches_of_networks_are_continued(folder: Path) -> None:
    X, own = inputs(9), MonteCarlo(networks=7, batches=3)
    found = monte_carlo_kernel(ARCHITECTURE, X, own, state=folder, executor=Serial())
    next(folder.rglob("batch-00001.npy")).unlink()
    executor = Serial()
    again = monte_carlo_kernel(ARCHITECTURE, X, own, state=folder, executor=executor)
    assert executor.submitted == 1
    assert np.array_equal(found.K, again.K)


def test_errors_of_workers(folder: Path) -> None:
    X = inputs(9)
    X[4] = 1e200
    with pytest.raises(InvalidInput, match="the kernel of input 4 overflows"):
        kernel(ARCHITECTURE, X, executor=Serial())
    with pytest.raises(InvalidInput, match="the kernel of input 4 overflows"):
        monte_carlo_kernel(ARCHITECTURE, X, executor=Serial())
    with pytest.raises(InvalidKernel, match="K"):
        log_probabilities(-covariance(), labels(12)[None], executor=Serial())
    assert list(folder.iterdir()) == []


def test_a_network_of_lambdas_needs_another_executor(folder: Path, processes: Executor) -> None:
    own = FromNetwork(lambda key, shape: ((1, 1), ()), lambda parameters, X: X[:, :1] + 1, name="first")
    with pytest.raises(InvalidInput, match="Define a network's functions in a module"):
        monte_carlo_kernel(own, inputs(3), MonteCarlo(networks=2, batches=2), executor=processes)
    assert list(folder.iterdir()) == []


def test_the_process_is_not_drawn_from_again_once_the_file_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "draws.npz"
    found = sample_functions(ARCHITECTURE, inputs(6), 5_000, source="gp", path=path)
    monkeypatch.setattr("nngp_prior.kernels.kernel", None)
    again = sample_functions(ARCHITECTURE, inputs(6), 5_000, source="gp", path=path)
    assert again.counts.tolist() == found.counts.tolist()


def test_training_on_an_executor_has_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"checkpoint: got .* with an executor"):
        train(ARCHITECTURE, inputs(12), labels(12), checkpoint=tmp_path / "run.npz", executor=Serial())


def test_networks_to_measure_are_checked() -> None:
    X, y = inputs(12), labels(12)
    trained = train(ARCHITECTURE, X, y, Training(epochs=0), seeds=2)
    first, second = (trained.network(i) for i in range(2))
    reports = measure_networks(ARCHITECTURE, [first, second], X, y, "fisher-trace")
    assert reports[0].training_loss != reports[1].training_loss
    executor = Serial()
    for networks, message in [
        ([first, second[:-1]], r"^networks\[1\]: have"),
        ([], r"^networks: are none"),
        ("all", r"^networks: got str"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            measure_networks(ARCHITECTURE, networks, X, y, executor=executor)
    assert executor.submitted == 0
