"""compose.yaml: of the options that Compose knows, and safe by default."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = ("compose.yaml", "compose.cuda.yaml")


def _strict(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
NAMED = {"type": "object", "additionalProperties": {"type": "string"}}
DEVICE = _strict(("capabilities",), driver=TEXT, count={"type": ["integer", "string"]}, capabilities=TEXTS)
SERVICE = _strict(
    build={"oneOf": [TEXT, _strict(args=NAMED)]},
    image=TEXT,
    init={"type": "boolean"},
    restart={"type": "string", "pattern": "^(no|always|on-failure(:[0-9]+)?|unless-stopped)$"},
    stop_grace_period={"type": "string", "pattern": "^([0-9]+[hms])+$"},
    ports=TEXTS,
    volumes=TEXTS,
    environment=NAMED,
    secrets=TEXTS,
    read_only={"type": "boolean"},
    tmpfs=TEXTS,
    cap_drop=TEXTS,
    security_opt=TEXTS,
    cpus={"type": ["number", "string"]},
    mem_limit={"type": ["integer", "string"]},
    pids_limit={"type": ["integer", "string"]},
    deploy=_strict(resources=_strict(reservations=_strict(devices={"type": "array", "items": DEVICE}))),
)
# The part of the Compose specification's schema that these files use.
SCHEMA = _strict(
    ("services",),
    name={"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
    services={"type": "object", "additionalProperties": SERVICE},
    volumes={"type": "object", "additionalProperties": {"type": "null"}},
    secrets={"type": "object", "additionalProperties": _strict(("file",), file=TEXT)},
)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_the_file_has_the_options_of_compose(name: str) -> None:
    document = read(name)
    jsonschema_rs.validate(SCHEMA, document)
    document["services"]["nngp-prior"]["read-only"] = True
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMA, document)


def test_the_service_is_confined() -> None:
    document = read("compose.yaml")
    service = document["services"]["nngp-prior"]
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
    assert service["volumes"] == ["store:/data"]
    assert list(document["volumes"]) == ["store"]


def test_the_token_is_in_a_file_that_git_ignores() -> None:
    document = read("compose.yaml")
    ((name, secret),) = document["secrets"].items()
    service = document["services"]["nngp-prior"]
    assert service["secrets"] == [name]
    assert service["environment"] == {"NNGP_TOKEN_FILE": f"/run/secrets/{name}"}
    folder = Path(secret["file"]).parts[0]
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_lock_files_that_builds_name_exist() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (default,) = (line.removeprefix("ARG ACCELERATOR=") for line in lines if line.startswith("ARG ACCELERATOR="))
    named = read("compose.cuda.yaml")["services"]["nngp-prior"]["build"]["args"]["ACCELERATOR"]
    for accelerator in (default, named):
        assert (ROOT / "docker" / f"{accelerator}.lock").is_file()
