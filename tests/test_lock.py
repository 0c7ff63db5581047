"""The lock file: what is installed is what was locked."""

from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"


def test_every_package_has_a_version_and_hashes_and_no_address() -> None:
    packages = LOCK.read_text().replace("\\\n", " ").splitlines()
    assert len(packages) > 50
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []
    assert [line for line in packages if "://" in line or "@" in line] == []
