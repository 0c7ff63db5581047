"""Unions of specifications."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel


def members(union: Any) -> list[type[BaseModel]]:
    """Return the models of a union, including nested unions.

    Args:
        union: union of models, annotated or not.

    Returns:
        the models, in order.
    """
    if isinstance(union, type) and issubclass(union, BaseModel):
        return [union]
    parts = get_args(union)[:1] if get_origin(union) is Annotated else get_args(union)
    return [model for part in parts for model in members(part)]
