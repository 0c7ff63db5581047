"""The lock files: what is installed is what was locked."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
IMAGES = sorted(f"docker/{path.name}" for path in ROOT.glob("docker/*.lock"))


def _packages(lock: str) -> list[str]:
    return (ROOT / lock).read_text().replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS + IMAGES)
def test_every_package_has_a_version_and_hashes_and_no_address(lock: str) -> None:
    packages = _packages(lock)
    assert len(packages) > {"docker/build.lock": 5, "requirements-browser.lock": 1}.get(lock, 30)
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []
    assert [line for line in packages if "://" in line or "@" in line] == []


@pytest.mark.parametrize("lock", [lock for lock in LOCKS + IMAGES if lock != "requirements.lock"])
def test_further_locks_change_no_version(lock: str) -> None:
    installed, further = _versions("requirements.lock"), _versions(lock)
    assert {name for name in installed.keys() & further.keys() if installed[name] != further[name]} == set()
    if lock not in IMAGES:
        assert further.keys() - installed.keys()


def test_images_have_what_is_tested_and_no_tools_of_development() -> None:
    assert IMAGES == ["docker/build.lock", "docker/cpu.lock", "docker/cuda.lock"]
    tested, build, cpu, cuda = (set(_versions(lock)) for lock in ("requirements.lock", *IMAGES))
    assert {"fastapi", "jaxlib", "matplotlib"} <= cpu < tested
    assert "hatchling" in build <= tested
    assert cuda & {"hatchling", "pandas", "pytest", "ruff", "schemathesis", "tensorflow"} == set()
    assert cpu < cuda
    assert [name for name in cuda - cpu if not name.startswith(("jax-cuda12-", "nvidia-"))] == []


def _versions(lock: str) -> dict[str, set[str]]:
    """By name; some packages have several, by version of Python."""
    versions: dict[str, set[str]] = {}
    for line in _packages(lock):
        name, _, rest = line.partition("==")
        versions.setdefault(name, set()).add(rest.split()[0])
    return versions
