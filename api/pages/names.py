"""Names of the rows of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.service import Service
from api.work import WORK
from api.work.summary import brief


def names_of(service: Service, kind: str, content: Mapping[str, Any]) -> Callable[[int], str]:
    """Return a function that names the labelling of a row.

    Args:
        service: the service.
        kind: kind of work.
        content: request as JSON.

    Returns:
        function from the row's index to its labelling in a line.
    """
    labellings = getattr(WORK[kind].request.model_validate(content), "labellings", ())
    places = service.runner.places(labellings) if labellings else ()

    def name(row: int) -> str:
        place = places[row]
        text = brief(place.labelling)
        return text if place.row is None else f"{text}[{place.row}]"

    return name
