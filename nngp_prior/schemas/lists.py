"""Long lists, whose validation ends soon after it has found enough to refuse them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

ENOUGH = 20  # problems that are told of one list
_BLOCK = 100  # parts that are validated before anybody looks whether they were wrong


@dataclass(frozen=True)
class StopsEarly:
    """Part of the annotation of a list or object, behind its bounds.

    One that has more parts than its bounds allow is refused before the first of them is looked at. Of one that is
    wrong, at most :data:`ENOUGH` problems are told: Pydantic tells all, at a kilobyte and 15 µs each.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        most: int | None = schema.get("max_length")
        kind = "Dictionary" if schema["type"] == "dict" else schema["type"].capitalize()

        def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
            if not isinstance(value, list | tuple | dict):
                return handler(value)
            if most is not None and len(value) > most:
                context = {"field_type": kind, "max_length": most, "actual_length": len(value)}
                raise PydanticKnownError("too_long", context)
            if isinstance(value, dict) or len(value) <= _BLOCK:
                return _first_problems(value, handler)
            parts: list[Any] = []
            for start in range(0, len(value), _BLOCK):
                parts += _first_problems(value[start : start + _BLOCK], handler, start)
            return tuple(parts)

        return core_schema.no_info_wrap_validator_function(validate, schema)


def _first_problems(value: Any, handler: Callable[[Any], Any], start: int = 0) -> Any:
    """Validate a part of a list, from a place on; the error has the first problems, and their places in the list."""
    try:
        return handler(value)
    except ValidationError as error:
        if not start and error.error_count() <= ENOUGH:
            raise
        # No variable has the problems: exceptions among them have tracebacks, which hold this frame and the value.
        raise ValidationError.from_exception_data(
            error.title, [_moved(problem, start) for problem in error.errors(include_url=False)[:ENOUGH]]
        ) from None


def _moved(found: Any, start: int) -> InitErrorDetails:
    place = found["loc"]
    if start and place and isinstance(place[0], int):
        place = (place[0] + start, *place[1:])
    return InitErrorDetails(type=found["type"], loc=place, input=found["input"], ctx=found.get("ctx", {}))
