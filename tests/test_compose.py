"""compose.yaml: of the options that Compose knows, and safe by default."""

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from sqlalchemy import make_url

from api.jobs.database import is_shared
from api.settings import ServerSettings

ROOT = Path(__file__).parents[1]
FILES = ("compose.yaml", "compose.cuda.yaml")


def _strict(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
COMMAND = {"type": "array", "items": TEXT}
NAMED = {"type": "object", "additionalProperties": {"type": "string"}}
DEVICE = _strict(("capabilities",), driver=TEXT, count={"type": ["integer", "string"]}, capabilities=TEXTS)
DURATION = {"type": "string", "pattern": "^([0-9]+[hms])+$"}
CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
AWAITED = _strict(("condition",), condition={"enum": CONDITIONS}, required={"type": "boolean"})
SERVICE = _strict(
    build={"oneOf": [TEXT, _strict(args=NAMED)]},
    image=TEXT,
    init={"type": "boolean"},
    restart={"type": "string", "pattern": "^(no|always|on-failure(:[0-9]+)?|unless-stopped)$"},
    stop_grace_period=DURATION,
    ports=TEXTS,
    volumes=TEXTS,
    environment=NAMED,
    secrets=TEXTS,
    profiles=TEXTS,
    user=TEXT,
    entrypoint=COMMAND,
    command=COMMAND,
    shm_size={"type": ["number", "string"]},
    depends_on={"type": "object", "additionalProperties": AWAITED},
    healthcheck=_strict(
        test=COMMAND, interval=DURATION, timeout=DURATION, retries={"type": "integer"}, disable={"type": "boolean"}
    ),
    read_only={"type": "boolean"},
    tmpfs=TEXTS,
    cap_drop=TEXTS,
    security_opt=TEXTS,
    cpus={"type": ["number", "string"]},
    mem_limit={"type": ["integer", "string"]},
    pids_limit={"type": ["integer", "string"]},
    deploy=_strict(
        replicas={"type": ["integer", "string"]},
        resources=_strict(reservations=_strict(devices={"type": "array", "items": DEVICE})),
    ),
)
# The part of the Compose specification's schema that these files use.
SCHEMA = _strict(
    ("services",),
    **{"x-confined": SERVICE},
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
    for name, service in document["services"].items():
        assert [port.split(":")[0] for port in service.get("ports", [])] == ["127.0.0.1"] * (name == "nngp-prior")
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
    volumes = {name: service.get("volumes") for name, service in document["services"].items()}
    shared, own = ["store:/data"], ["database:/var/lib/postgresql/data"]
    assert volumes == {"nngp-prior": shared, "worker": shared, "postgres": own, "scheduler": None}
    assert list(document["volumes"]) == ["store", "database"]


def settings() -> dict[str, str]:
    """Of the file for a cluster."""
    lines = (ROOT / "docker" / "cluster.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def composed(**given: str) -> dict[str, Any]:
    """Services that Compose would start: profiles, and variables with their defaults, are resolved."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: given.get(match[1]) or match[2], text))
    profiles = {given.get("COMPOSE_PROFILES")}
    services = found["services"].items()
    active = {name: each for name, each in services if not each.get("profiles") or profiles & set(each["profiles"])}
    assert all(target in found["secrets"] for each in active.values() for target in each.get("secrets", ()))
    return {**found, "services": active}


def test_without_the_settings_of_a_cluster_there_is_one_service() -> None:
    document = composed()
    assert list(document["services"]) == ["nngp-prior"]
    service = document["services"]["nngp-prior"]
    assert {name for name, value in service["environment"].items() if value} == {"NNGP_TOKEN_FILE"}
    assert document["secrets"]["nngp_database_password"]["file"] == "/dev/null"
    assert not any(awaited["required"] for awaited in service["depends_on"].values())


def test_empty_settings_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in composed()["services"]["nngp-prior"]["environment"]:
        monkeypatch.setenv(name, "")
    found = ServerSettings()
    assert (found.database_url, found.database_password_file, found.dask_address) == (None, None, None)


def test_the_parts_of_a_cluster_find_each_other() -> None:
    document = composed(**settings())
    services = document["services"]
    assert list(services) == ["nngp-prior", "postgres", "scheduler", "worker"]
    environment, database = services["nngp-prior"]["environment"], services["postgres"]["environment"]
    url = make_url(environment["NNGP_DATABASE_URL"])
    assert (url.host, url.username, url.database) == ("postgres", database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert url.password is None
    assert is_shared(environment["NNGP_DATABASE_URL"])
    assert environment["NNGP_DATABASE_PASSWORD_FILE"] == database["POSTGRES_PASSWORD_FILE"]
    assert Path(document["secrets"]["nngp_database_password"]["file"]).parent == Path("secrets")
    address = environment["NNGP_DASK_ADDRESS"]
    assert address == services["worker"]["environment"]["NNGP_DASK_ADDRESS"] == "tcp://scheduler:8786"
    assert "8786" in services["scheduler"]["command"]
    assert all(name in services for each in services.values() for name in each.get("depends_on", ()))
    assert int(services["worker"]["deploy"]["replicas"]) == 2
    health = [name for name, each in services.items() if "test" in each.get("healthcheck", {})]
    assert health == ["postgres", "scheduler"]  # that of the service is in the image


def test_the_token_is_in_a_file_that_git_ignores() -> None:
    document = read("compose.yaml")
    name, secret = next(iter(document["secrets"].items()))
    service = document["services"]["nngp-prior"]
    assert name in service["secrets"]
    assert service["environment"]["NNGP_TOKEN_FILE"] == f"/run/secrets/{name}"
    folder = Path(secret["file"]).parts[0]
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_lock_files_that_builds_name_exist() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (default,) = (line.removeprefix("ARG ACCELERATOR=") for line in lines if line.startswith("ARG ACCELERATOR="))
    named = read("compose.cuda.yaml")["services"]["nngp-prior"]["build"]["args"]["ACCELERATOR"]
    for accelerator in (default, named):
        assert (ROOT / "docker" / f"{accelerator}.lock").is_file()
