"""The client's calls in process."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from nngp_prior import Client, FullyConnected, LocalClient, kernel, learning_curve, log_prior, sample_functions
from nngp_prior.client import RemoteJob
from nngp_prior.client.base import BaseClient
from nngp_prior.client.base_job import BaseJob
from nngp_prior.data import load
from nngp_prior.errors import InvalidInput, InvalidLabels, NngpPriorError, NotFinished
from nngp_prior.kernels import KernelCache
from nngp_prior.local import LocalJob
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import BlobData, Constant, Digits, Parity, Threshold

NET = FullyConnected(depth=1)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 5))
Y = np.where(RNG.standard_normal((4, 12)) > 0, 1, -1)


@pytest.fixture
def client(tmp_path) -> LocalClient:
    return LocalClient(KernelCache(tmp_path, 10**9))


@pytest.mark.parametrize(
    ("remote", "local", "base"), [(Client, LocalClient, BaseClient), (RemoteJob, LocalJob, BaseJob)]
)
def test_calls_are_those_of_the_client(remote: type, local: type, base: type) -> None:
    calls = [name for name in vars(base) if not name.startswith("_")]
    assert len(calls) >= 5
    for name in calls:
        if isinstance(getattr(base, name), property):
            continue
        arguments = [list(inspect.signature(getattr(each, name)).parameters.values()) for each in (remote, local)]
        assert arguments[0] == arguments[1], name
        assert inspect.getdoc(getattr(remote, name)), name
    more = {name for name in vars(local) if not name.startswith("_")} - set(calls)
    assert more <= {"accept"}


def test_values_are_those_of_the_library_bit_for_bit(client: LocalClient) -> None:
    results = client.estimate(NET, X, Y, seed=7, particles=16).result()
    for result, y in zip(results, Y, strict=True):
        expected = log_prior(NET, X, y, seed=7, particles=16)
        assert (result.value, result.stderr) == (expected.value, expected.stderr)
        assert result.interval() == expected.interval()
        assert result.lower_bound() == expected.lower_bound()
    assert results.about["n"] == 12
    assert results.about["estimator"]["particles"] == 16


def test_specified_data_and_labellings(client: LocalClient) -> None:
    (result,) = client.estimate(NET, Digits(n=15), [Threshold(at=5)], method="ep").result()
    data = load(Digits(n=15))
    assert result.value == log_prior(NET, data.X, np.where(data.classes >= 5, 1, -1), method="ep").value


def test_uploads_have_classes_for_labellings(client: LocalClient) -> None:
    dataset = BlobData(sha256=client.upload(X), classes=client.upload(np.arange(12)))
    (result,) = client.estimate(NET, dataset, [Parity()], method="ep").result()
    assert result.value == log_prior(NET, X, np.where(np.arange(12) % 2, 1, -1), method="ep").value


def test_arrays_may_change_after_they_were_given(client: LocalClient) -> None:
    inputs = X.copy()
    job = client.estimate(NET, inputs, Y[0], method="ep")
    inputs[:] = 0
    assert job.result()[0].value == log_prior(NET, X, Y[0], method="ep").value


def test_a_row_that_cannot_be_used_is_refused_alone(client: LocalClient) -> None:
    labels = Y.astype(float)
    labels[1, 3] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 4 labellings cannot be used .* labelling 1: Y: Y\[3\] is nan"):
        job = client.estimate(NET, X, labels, method="ep")
    assert [result.status for result in job.result()] == ["ok", "invalid-labels", "ok", "ok"]


def test_a_warning_names_the_line_of_the_call() -> None:
    """In a process of its own, since the tests check types at run time, in frames between."""
    program = """import numpy, nngp_prior
client, network, X = nngp_prior.LocalClient(), nngp_prior.FullyConnected(), numpy.eye(2)
client.estimate(network, X, [[1, -1], [0, 1]])
client.posterior(network, X, [[1, -1], [0, 1]], train=1)"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [line.partition(" ")[0] for line in ended.stderr.splitlines()] == ["<string>:3:", "<string>:4:"]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ((Y + 1) // 2, {}, r"Y: got labels 0 and 1 .*or classes=2\."),
        (Y[:, :5], {}, r"Y: got shape \(5,\) where there are 12 inputs"),
        (Y, {"classes": 3}, r"-1 and \+1 need no classes"),
    ],
)
def test_labels_none_of_which_can_be_used_are_no_job(client: LocalClient, labels, options: dict, message: str) -> None:
    for ask in (client.estimate, client.bound):
        with pytest.raises(InvalidLabels, match=message):
            ask(NET, X, labels, **options)
    if not options:
        with pytest.raises(InvalidLabels) as caught:
            client.posterior(NET, X, labels, train=6)
        assert "classes=" not in str(caught.value)
    assert list(client.jobs()) == []


def test_what_cannot_be_used_at_all_is_refused_when_it_is_submitted(client: LocalClient) -> None:
    with pytest.raises(InvalidInput, match="n: 9,999 inputs"):
        client.estimate(NET, Digits(n=9999), [Parity()])
    with pytest.raises(InvalidInput, match="Upload it first"):
        client.estimate(NET, BlobData(sha256="0" * 64), [Parity()])
    with pytest.raises(InvalidInput, match="not finite"):
        client.estimate(NET, np.full((2, 2), np.nan), [1, 1])
    assert list(client.jobs()) == []


def test_the_same_request_is_the_same_job_and_is_computed_once(client: LocalClient) -> None:
    job = client.estimate(NET, X, Y, method="ep")
    seen: list[Progress] = []
    job.result(progress=seen.append)
    assert seen[-1] == Progress("labellings", 4, 4)
    assert "kernel tiles" in {event.stage for event in seen}
    seen.clear()
    again = client.estimate(NET, X, Y, method="ep")
    again.result(progress=seen.append)
    assert again is client.job(job.id)
    assert seen == [Progress("labellings", 4, 4)]
    assert client.job(job.id[:8]) is job
    with pytest.raises(InvalidInput, match="no job has an id"):
        client.job("xyz")


def test_results_come_one_by_one_and_what_was_computed_is_kept(client: LocalClient) -> None:
    job = client.estimate(NET, X, Y, method="ep")
    results = job.results()
    first = next(results)
    results.close()
    assert 1 <= job.status().current < 4 or job.status().ended
    rest = list(job.results())
    assert rest[0] == first
    assert sorted(result.labelling for result in rest) == [0, 1, 2, 3]
    assert job.status().state == "successful"


def test_time_for_a_job_ends_between_labellings(client: LocalClient) -> None:
    job = client.estimate(NET, X, Y, method="ep")
    with pytest.raises(NotFinished, match="of 4 labellings"):
        job.result(timeout=0)
    assert not job.wait(0)
    assert len(job.result(timeout=60)) == 4


def test_a_dismissed_job_is_computed_when_it_is_submitted_again(client: LocalClient) -> None:
    job = client.estimate(NET, X, Y, method="ep")
    assert job.dismiss().state == "dismissed"
    with pytest.raises(NngpPriorError, match="Submit it again"):
        job.result()
    assert [each.id for each in client.jobs("dismissed")] == [job.id]
    assert len(client.estimate(NET, X, Y, method="ep").result()) == 4
    assert job.dismiss().state == "successful"


def test_jobs_are_computed_as_they_are_asked_for(client: LocalClient) -> None:
    jobs = [client.estimate(NET, Digits(n=n), [Constant()], method="ep") for n in (5, 6, 7)]
    assert {job.id for job in client.as_completed(jobs)} == {job.id for job in jobs}
    assert all(job.status().ended for job in jobs)


def test_bounds_are_those_of_the_library(client: LocalClient) -> None:
    results = client.bound(NET, X, Y, seed=7, delta=0.1, sizes=[12, 6], particles=16).result()
    K = kernel(NET, X)
    for result, y in zip(results, Y, strict=True):
        expected = learning_curve(K, y, [6, 12], delta=0.1, seed=7, particles=16)
        for point, (m, estimate, bounds) in zip(result.points, expected, strict=True):
            assert (point.m, point.value, point.bounds) == (m, estimate.value, bounds)
    assert results.about["delta"] == 0.1
    assert results.about["sizes"] == [6, 12]
    with pytest.raises(InvalidInput, match="sizes: got 13"):
        client.bound(NET, X, Y, sizes=[13])
    first = next(client.bound(NET, X, Y, method="ep").results())
    assert not first.bounds["realizable"].is_bound


def test_samples_are_those_of_the_library(client: LocalClient) -> None:
    seen: list[Progress] = []
    net = FullyConnected(depth=1, width=5)
    job = client.sample(net, X, 2000, seed=3, top=3, complexities=["entropy"])
    samples = job.result(progress=seen.append)
    counts = sample_functions(net, X, 2000, seed=3)
    assert [(each.rank, each.draws, each.frequency) for each in samples] == [
        (each.rank, each.draws, each.frequency) for each in counts.top(3)
    ]
    np.testing.assert_array_equal([each.labels for each in samples], counts.labels(slice(3)))
    assert (samples.draws, samples.functions) == (2000, len(counts))
    assert samples.about["n"] == 12
    assert Progress("networks", 2000, 2000) in seen
    assert seen[-1] == Progress("samples", 1, 1)
    assert [each.draws for each in next(job.results())] == [each.draws for each in samples]
    assert job.status().document["kind"] == "samples"
