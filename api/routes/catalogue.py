"""``/v1/catalogue``: available options, generated from the specifications."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from api.bodies import StrictRoute
from api.unions import members
from api.work import WORK
from nngp_prior.schemas.measures.registry import Measure
from nngp_prior.schemas.requests import RequestDataset, RequestLabelling
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import Estimator

router = APIRouter(prefix="/v1/catalogue", tags=["catalogue"], route_class=StrictRoute)
_UNIONS = {
    "architectures": Architecture,
    "datasets": RequestDataset,
    "labellings": RequestLabelling,
    "estimators": Estimator,
    "measures": Measure,
}


@router.get("")
def get() -> dict[str, Any]:
    """List architectures, data sets, labellings, estimators, measures and kinds of work, with schemas and defaults."""
    return _catalogue()


@cache
def _catalogue() -> dict[str, Any]:
    return {
        **{name: [_entry(model) for model in members(union)] for name, union in _UNIONS.items()},
        "work": [{"kind": kind, "path": f"/v1/{kind}", **_describe(work.request)} for kind, work in WORK.items()],
    }


def _entry(model: type[BaseModel]) -> dict[str, Any]:
    return {"kind": model.model_fields["kind"].default, **_describe(model)}


def _describe(model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}
    schema = model.model_json_schema()
    about = schema.pop("description", "").partition("\n\n")[0]
    return {"about": " ".join(about.split()), "defaults": to_jsonable_python(defaults), "schema": schema}
