"""Uninterrupted studies, one of networks and one of functions, without reports; tests do not change their folders."""

import pytest

from nngp_prior.experiments import FrequencyStudy, Study, read_protocol, run
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.protocols import Protocol
from tests.experiments.cases import CHANGES, FUNCTIONS, NETWORKS, written


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    return read_protocol(written(tmp_path_factory.mktemp("protocol"), NETWORKS), CHANGES)


@pytest.fixture(scope="session")
def whole(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(protocol, tmp_path_factory.mktemp("networks") / "study")


@pytest.fixture(scope="session")
def functions_protocol(tmp_path_factory: pytest.TempPathFactory) -> FrequencyProtocol:
    protocol = read_protocol(written(tmp_path_factory.mktemp("protocol"), FUNCTIONS))
    assert isinstance(protocol, FrequencyProtocol)
    return protocol


@pytest.fixture(scope="session")
def whole_functions(functions_protocol: FrequencyProtocol, tmp_path_factory: pytest.TempPathFactory) -> FrequencyStudy:
    return run(functions_protocol, tmp_path_factory.mktemp("functions") / "study")
