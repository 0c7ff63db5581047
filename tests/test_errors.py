import pickle

import pytest

from nngp_prior.errors import InvalidInput, InvalidKernel, InvalidLabels, MissingExtra, ServiceError


@pytest.mark.parametrize("kind", [InvalidInput, InvalidKernel, InvalidLabels])
def test_they_come_back_from_other_processes(kind: type[InvalidInput]) -> None:
    error = pickle.loads(pickle.dumps(kind("n", "got -1", "Pass a positive number.")))
    assert type(error) is kind
    assert str(error) == "n: got -1. Pass a positive number."
    assert error.remedy == "Pass a positive number."


def test_so_does_that_of_a_missing_extra() -> None:
    error = pickle.loads(pickle.dumps(MissingExtra("fastapi", "service")))
    assert (error.package, error.extra) == ("fastapi", "service")
    assert str(error) == 'fastapi: is not installed. Run: pip install "nngp-prior[service]"'


def test_so_do_those_of_a_service() -> None:
    error = pickle.loads(pickle.dumps(ServiceError({"status": 429, "code": "queue-full", "detail": "full"}, 3.0)))
    assert (error.status, error.code, error.retry_after, str(error)) == (429, "queue-full", 3.0, "full")
