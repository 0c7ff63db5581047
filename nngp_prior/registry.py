"""Implementations found by the type of their parameters, so that a new one is one module and one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Implementation = TypeVar("Implementation", bound=Callable)


class Registry(Generic[Implementation]):
    """A map from a parameters model to the function that carries it out."""

    def __init__(self) -> None:
        self._entries: dict[type, Implementation] = {}

    def register(self, parameters: type) -> Callable[[Implementation], Implementation]:
        """Decorator: the function below carries out these parameters.

        Args:
            parameters: a model class; each has one implementation.

        Returns:
            the decorator, which gives back the function unchanged.

        Raises:
            KeyError: the class has an implementation already.
        """

        def decorate(implementation: Implementation) -> Implementation:
            if parameters in self._entries:
                raise KeyError(f"{parameters.__name__} has an implementation already")
            self._entries[parameters] = implementation
            return implementation

        return decorate

    def __getitem__(self, parameters: object) -> Implementation:
        return self._entries[type(parameters)]

    def __iter__(self) -> Iterator[type]:
        return iter(self._entries)
