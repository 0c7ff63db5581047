"""The lock files: what is installed is what was locked."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def _packages(lock: str) -> list[str]:
    return (ROOT / lock).read_text().replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_a_version_and_hashes_and_no_address(lock: str) -> None:
    packages = _packages(lock)
    assert len(packages) > 30
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []
    assert [line for line in packages if "://" in line or "@" in line] == []


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock != "requirements.lock"])
def test_further_locks_change_no_version(lock: str) -> None:
    installed, further = _versions("requirements.lock"), _versions(lock)
    assert {name for name in installed.keys() & further.keys() if installed[name] != further[name]} == set()
    assert further.keys() - installed.keys()


def _versions(lock: str) -> dict[str, set[str]]:
    """By name; some packages have several, by version of Python."""
    versions: dict[str, set[str]] = {}
    for line in _packages(lock):
        name, _, rest = line.partition("==")
        versions.setdefault(name, set()).add(rest.split()[0])
    return versions
