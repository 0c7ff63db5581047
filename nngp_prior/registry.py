"""Registry of implementations by the type of their specification, so that a new one is one module and one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Implementation = TypeVar("Implementation", bound=Callable)


class Registry(Generic[Implementation]):
    """A map from a specification's type to the function that implements it."""

    def __init__(self) -> None:
        self._entries: dict[type, Implementation] = {}

    def register(self, parameters: type) -> Callable[[Implementation], Implementation]:
        """Return a decorator that registers the implementation of a specification.

        Args:
            parameters: class of the specification; each has one implementation.

        Returns:
            the decorator, which returns the function unchanged.

        Raises:
            KeyError: if the class has an implementation already.
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
