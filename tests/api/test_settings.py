"""Settings of the service, and its token."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ServerSettings
from api.token import token_of, token_path
from nngp_prior.errors import InvalidInput
from tests.api.apps import TOKEN, problem


def test_a_token_is_made_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "new"
    made = token_of(ServerSettings(home=home, port=8123))
    assert made is not None
    assert len(made) >= 32
    said = capsys.readouterr().err
    command = f'curl -H "Authorization: Bearer $(cat {home / "token"})" http://127.0.0.1:8123/v1/catalogue'
    assert command in said
    assert made not in said  # which journals keep
    assert token_of(ServerSettings(home=home)) == made
    assert capsys.readouterr().err == ""
    assert token_path(ServerSettings(home=home)).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == ["token"]
    assert token_of(ServerSettings(home=home, token="other")) == "other"
    assert "other" not in repr(ServerSettings(home=home, token="other"))
    with pytest.raises(ValidationError):
        ServerSettings(home=home, token="")
    (home / "token").write_text("\n")
    with pytest.raises(InvalidInput, match="is empty"):
        token_of(ServerSettings(home=home))


def test_the_token_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    settings = ServerSettings(home=tmp_path / "home", token_file=file)
    with pytest.raises(InvalidInput, match=r"NNGP_TOKEN_FILE: .*secret cannot be read \(No such file"):
        token_of(settings)
    file.write_text(" \n")
    with pytest.raises(InvalidInput, match=r"NNGP_TOKEN_FILE: .*secret is empty"):
        token_of(settings)
    file.write_text("two words\n")
    with pytest.raises(InvalidInput, match="other than printable"):
        token_of(settings)
    file.write_text(f"{TOKEN}\n")
    assert token_of(settings) == TOKEN
    assert not (tmp_path / "home").exists()
    for other in ({"token": TOKEN}, {"no_token": True}):
        with pytest.raises(ValidationError, match=r"NNGP_TOKEN_FILE.* contradict"):
            ServerSettings(home=tmp_path, token_file=file, **other)


def test_without_a_token_only_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="whoever reaches"):
        ServerSettings(home=tmp_path, no_token=True, host="0.0.0.0")
    with pytest.raises(ValidationError, match="contradict"):
        ServerSettings(home=tmp_path, no_token=True, token=TOKEN)
    app = create_app(ServerSettings(home=tmp_path, no_token=True, host="::1"))
    with TestClient(app, base_url="http://[::1]:8000") as api:
        assert api.get("/v1/catalogue").status_code == 200
        problem(api.get("/v1/catalogue", headers={"Host": "evil.example"}), 400, "forbidden-host")
    assert not (tmp_path / "token").exists()


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_ALLOWED_HOSTS", "box.lab, other")
    monkeypatch.setenv("NNGP_PORT", "9000")
    monkeypatch.setenv("NNGP_TOKEN", "")
    found = ServerSettings()
    assert (found.allowed_hosts, found.port, found.token) == (("box.lab", "other"), 9000, None)
