"""``/v1/bounds``: PAC-Bayes bounds from log P of labellings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Limits, Plan
from api.work.estimates import plan_of
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.probability import seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import BoundRequest


class BoundWork:
    """Bounds on the generalization error: one row per labelling, with one point per number of examples."""

    kind = BoundRequest.work
    request = BoundRequest
    columns: tuple[str, ...] = ("log_p", "stderr", "bound")

    def plan(self, request: BoundRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; costs are those of estimates, for each number of examples."""

        def seconds(n: int) -> float:
            return sum(seconds_needed(m, request.estimator) for m in request.sizes or (n,))

        return plan_of(request, runner, limits, seconds)

    def run(
        self, request: BoundRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return runner.bounds(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        asked = ("architecture", "estimator", "seed", "delta", "gamma", "estimator_share", "sizes")
        return {"units": "nats", **facts, **{name: request[name] for name in asked}}
