"""Arguments of requests, and the requests that a client makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nngp_prior import Client, FullyConnected
from nngp_prior.schemas.requests import EstimateRequest
from tests.client.service import TOKEN

X = np.arange(12.0).reshape(4, 3)
Y = np.array([[1, -1, 1, 1], [-1, -1, 1, -1]])
NET = FullyConnected(depth=1)


def posted(client: Client, *arguments, **options) -> EstimateRequest:
    """The request that the client makes of its arguments."""
    return noted(client, lambda noting: noting.estimate(*arguments, **options))


def noted(client: Client, ask: Callable[[Client], Any]) -> Any:
    """Return the request that a client sends when a function asks it."""
    sent = []

    class Noting(Client):
        def submit(self, request, **names):
            sent.append(request)
            return super().submit(request, **names)

    with Noting(client.url, TOKEN) as noting:
        ask(noting)
    return sent[0]
