"""Validation of long lists that stops soon after enough errors to refuse them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

ENOUGH = 20  # maximal number of errors reported for one list
_BLOCK = 100  # number of entries validated between checks for errors


@dataclass(frozen=True)
class StopsEarly:
    """Annotation of a list or object, placed after its bounds.

    A list with more entries than its bounds allow is refused before any entry is validated. At most :data:`ENOUGH`
    errors are reported: Pydantic reports all of them, each of a kilobyte and 15 µs.
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
    """Validate part of a list from an index on; the error has the first problems with their indices in the list."""
    try:
        return handler(value)
    except ValidationError as error:
        if not start and error.error_count() <= ENOUGH:
            raise
        # No variable holds the errors: their tracebacks would refer to this frame and to the value.
        raise ValidationError.from_exception_data(
            error.title, [_moved(problem, start) for problem in error.errors(include_url=False)[:ENOUGH]]
        ) from None


def _moved(found: Any, start: int) -> InitErrorDetails:
    place = found["loc"]
    if start and place and isinstance(place[0], int):
        place = (place[0] + start, *place[1:])
    return InitErrorDetails(type=found["type"], loc=place, input=found["input"], ctx=found.get("ctx", {}))
