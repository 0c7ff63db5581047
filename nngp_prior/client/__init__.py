"""Client of a service; requires NumPy and an HTTP library, not the computing packages."""

from nngp_prior.client.client import Client
from nngp_prior.client.jobs import Event, RemoteJob
from nngp_prior.client.listing import Jobs, as_completed
from nngp_prior.client.status import Status

__all__ = ["Client", "Event", "Jobs", "RemoteJob", "Status", "as_completed"]


def __dir__() -> list[str]:
    return sorted(__all__)
