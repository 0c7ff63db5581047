"""Names and tags of jobs. They describe a job and are no part of its identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import Said, Specification
from nngp_prior.schemas.lists import StopsEarly

MAX_TAGS = 20
_NO_CONTROLS = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"}


def _plain(text: str) -> str:
    """Refuse control and format characters, line breaks and outer spaces, which look like no or another name."""
    if not text.isprintable():
        raise ValueError("Use letters, digits, punctuation and plain spaces, no control characters")
    if text != text.strip():
        raise ValueError("Remove the spaces at its beginning and end")
    return text


def as_tags(tags: Any) -> Any:
    """Return one tag, or tags in any iterable, as a tuple; anything else unchanged, for validation to refuse."""
    return (tags,) if isinstance(tags, str) else tuple(tags) if isinstance(tags, Iterable) else tags


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))


JobName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain), Said(_NO_CONTROLS)]
Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_plain), Said(_NO_CONTROLS)]
_Tags = Annotated[
    tuple[Tag, ...],
    Field(max_length=MAX_TAGS),
    StopsEarly(),
    AfterValidator(_distinct),
]


class JobEdit(Specification):
    """Change of a job's name and tags.

    Attributes:
        name: new name; None for no name. If it is not given, the name is unchanged.
        add_tags: tags to add.
        remove_tags: tags to remove; others than the job has are ignored.
    """

    name: JobName | None = None
    add_tags: _Tags = ()
    remove_tags: _Tags = ()

    @field_validator("remove_tags")
    @classmethod
    def _not_added(cls, tags: tuple[str, ...], others: Any) -> tuple[str, ...]:
        both = set(tags) & set(others.data.get("add_tags", ()))
        if both:
            raise ValueError(f"Add {min(both)!r} or remove it, not both")
        return tags


class JobNames(Specification):
    """Name and tags of a job.

    Attributes:
        name: name, up to 200 characters; None if there is none.
        tags: distinct tags in alphabetical order, up to 20 of up to 50 characters each.
    """

    name: JobName | None = None
    tags: _Tags = ()

    @classmethod
    def of(cls, name: str | None = None, tags: Iterable[str] | None = None) -> JobNames:
        """Return a name and tags as users write them.

        Args:
            name: the name.
            tags: one tag, or several in any order.

        Returns:
            the valid name and tags.

        Raises:
            InvalidInput: if one is invalid.
        """
        return cls(name=name, tags=as_tags(() if tags is None else tags))

    @property
    def as_edit(self) -> JobEdit:
        """Change made by a submission: it replaces the name, if it has one, and adds its tags."""
        return JobEdit(add_tags=self.tags) if self.name is None else JobEdit(name=self.name, add_tags=self.tags)

    def after(self, edit: JobEdit) -> JobNames:
        """Return the name and the tags after a change.

        Args:
            edit: the change.

        Returns:
            the new name and tags.

        Raises:
            InvalidInput: if there are too many tags.
        """
        tags = {*self.tags, *edit.add_tags} - {*edit.remove_tags}
        if len(tags) > MAX_TAGS:
            remedy = f"Remove some of its tags first; at most {MAX_TAGS} are allowed."
            raise InvalidInput("tags", f"the job would have {len(tags)}", remedy)
        renamed = {"name": edit.name} if "name" in edit.model_fields_set else {}
        return self.model_copy(update={**renamed, "tags": tuple(sorted(tags))})
