"""Bounds, samples and sharpness: requests and results."""

import io

import numpy as np
import pytest

from nngp_prior import Client
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import Trace
from nngp_prior.schemas.requests import BoundRequest, SampleRequest
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.schemas.specs.data import Digits, Parity
from nngp_prior.schemas.weights import named_weights
from tests.client.requests import NET, X, Y, noted, posted
from tests.client.service import FakeService

W, B, V = np.arange(12.0).reshape(3, 4), np.ones(4), np.ones((4, 1))
PAIRS = [(W, B), (), (V, None)]


def test_bounds(client: Client, service: FakeService) -> None:
    request = posted(client, NET, Digits(n=4), Parity())
    asked = noted(client, lambda noting: noting.bound(NET, Digits(n=4), Parity(), sizes=[4, 2], delta=0.1, particles=8))
    assert asked == BoundRequest(
        dataset=Digits(n=4), labellings=(Parity(),), delta=0.1, sizes=(2, 4), estimator={"kind": "smc", "particles": 8},
        architecture=NET,
    )  # fmt: skip
    assert request.work == "estimates"
    assert asked.work == "bounds"
    job = client.bound(NET, X, Y, sizes=np.array([2, 4]))
    results = job.result()
    assert isinstance(results, BoundResults)
    assert [[point.m for point in result.points] for result in results] == [[2, 4], [2, 4]]
    assert service.asked[-1][1] == f"/v1/jobs/{job.id}/results"
    again = client.job(job.id)
    assert [result.bounds for result in again.results()] == [result.bounds for result in results]
    assert client.cost(asked)["seconds"] == 2.0
    with pytest.raises(InvalidInput, match="sizes"):
        client.bound(NET, X, Y, sizes=[0])


def test_samples(client: Client, service: FakeService) -> None:
    asked = noted(
        client, lambda noting: noting.sample(NET, Digits(n=4), 10, top=3, source="gp", complexities=["entropy"])
    )
    assert asked == SampleRequest(
        architecture=NET, dataset=Digits(n=4), networks=10, top=3, source="gp", complexities=("entropy",)
    )
    job = client.sample(NET, X, 10, complexities=["entropy"])
    samples = job.result()
    assert isinstance(samples, Samples)
    assert (samples.draws, samples.functions, samples.undecided, samples[0].draws) == (10, 5, 1, 3)
    assert samples[0].complexities == {"entropy": 7.0}
    assert samples.about["n"] == 4
    assert service.count("PUT") == 1
    (streamed,) = client.job(job.id).results()
    assert repr(streamed) == repr(samples)
    with pytest.raises(InvalidInput, match="complexities"):
        client.sample(NET, X, 10, complexities=["depth"])


def test_sharpness(client: Client, service: FakeService) -> None:
    asked = noted(
        client, lambda noting: noting.sharpness(NET, PAIRS, Digits(n=4), Parity(), ["trace", Trace(probes=9)], seed=3)
    )
    assert asked.measures == (Trace(), Trace(probes=9))
    assert (asked.work, asked.labelling, asked.dataset, asked.seed) == ("sharpness", Parity(), Digits(n=4), 3)
    names = {"dense 1/weight": W, "dense 1/bias": B, "dense 2/weight": V}
    assert list(asked.weights) == list(names)
    for name, array in names.items():
        np.testing.assert_array_equal(np.load(io.BytesIO(service.blobs[asked.weights[name]])), array)
    job = client.sharpness(NET, PAIRS, X, Y[0], ["trace", {"kind": "trace", "probes": 9}], seed=3)
    results = job.result()
    assert isinstance(results, SharpnessResults)
    assert service.count("PUT") == 5  # the weights once
    assert [each.name for each in results.report.values()] == ["trace_0", "trace_1"]
    assert results.report["trace_0"].value == np.inf
    assert (results.report.training_loss, results.report.parameters) == (0.25, 7)
    assert [repr(each) for each in client.job(job.id).results()] == [repr(each) for each in results]
    assert client.cost(asked)["seconds"] == 2.0


def test_names_of_weights() -> None:
    filters = np.ones((3, 3, 1, 2))
    block = [(), ([(), (filters, None), ()], [(filters, B)]), ()]  # a branch, and a shortcut
    found = named_weights([(filters, B), block, [W, B]])
    assert {name: array.shape for name, array in found.items()} == {
        "convolution 1/weight": (3, 3, 1, 2),
        "convolution 1/bias": (4,),
        "convolution 2/weight": (3, 3, 1, 2),
        "convolution 3/weight": (3, 3, 1, 2),
        "convolution 3/bias": (4,),
        "dense 4/weight": (3, 4),
        "dense 4/bias": (4,),
    }


@pytest.mark.parametrize(
    ("parameters", "y", "measures", "part"),
    [
        (PAIRS, Y, ["trace"], "y: got 2 labellings"),
        (PAIRS, [Parity(), Parity()], ["trace"], "y: got 2 labellings"),
        (PAIRS, Y[0], ["beauty"], "measures: got 'beauty'"),
        (PAIRS, Y[0], [], "measures"),
        ([], Y[0], ["trace"], "parameters: hold no arrays"),
        ({"W": W}, Y[0], ["trace"], "parameters: hold a dict"),
        ([(B, B)], Y[0], ["trace"], "parameters: layer 1 has arrays of shapes"),
        ([(W, B, B)], Y[0], ["trace"], "parameters: layer 1 has arrays of shapes"),
        ([("a", B)], Y[0], ["trace"], "parameters: is not an array of real numbers"),
    ],
)
def test_invalid_networks_are_refused_before_any_request(
    client: Client, service: FakeService, parameters, y, measures: list[str], part: str
) -> None:
    with pytest.raises(InvalidInput, match=part):
        client.sharpness(NET, parameters, X, y, measures)
    assert service.asked == []
