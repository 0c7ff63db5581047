"""Token required in every request."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import shlex
import sys
from pathlib import Path

from api.files import private_folder
from api.settings import ServerSettings
from nngp_prior.errors import InvalidInput

_PRINTABLE = re.compile(rb"[!-~]+")


def token_of(settings: ServerSettings) -> str | None:
    """Return the token of the settings or of their file, else the one under ``NNGP_HOME``, generated at first start.

    Args:
        settings: settings of the service.

    Returns:
        the token; None if none is required.

    Raises:
        InvalidInput: if its file is unreadable, empty or damaged.
    """
    if settings.no_token:
        return None
    if settings.token is not None:
        return settings.token.get_secret_value()
    if settings.token_file is not None:
        return _read("NNGP_TOKEN_FILE", settings.token_file, "Write the token into it, readable by the service's user.")
    path = token_path(settings)
    private_folder(settings.home)
    made = _make(path)
    token = _read("NNGP_TOKEN", path, "Remove the file, and a token is made again.")
    if made:
        url = f"http://{settings.host}:{settings.port}/v1/catalogue"
        print(f"A token was made, and is kept in {path}. Try it:", file=sys.stderr)
        # Prints the token's path instead of the token: a service's output is kept in journals.
        print(f'    curl -H "Authorization: Bearer $(cat {shlex.quote(str(path))})" {url}', file=sys.stderr, flush=True)
    return token


def token_path(settings: ServerSettings) -> Path:
    """Return the path of a generated token."""
    return settings.home / "token"


def is_token(given: bytes, token: str) -> bool:
    """True if a token is correct; constant-time comparison."""
    return hmac.compare_digest(given, token.encode())


def session_of(token: str) -> str:
    """Return the session cookie for a token: valid as long as the token, and not revealing it."""
    return hmac.new(token.encode(), b"nngp-prior session", hashlib.sha256).hexdigest()


def _read(setting: str, path: Path, remedy: str) -> str:
    try:
        content = path.read_bytes().strip()
    except OSError as error:
        raise InvalidInput(setting, f"{path} cannot be read ({error.strerror})", remedy) from None
    if not _PRINTABLE.fullmatch(content):
        problem = "is empty" if not content else "holds other than printable ASCII characters"
        raise InvalidInput(setting, f"{path} {problem}", remedy)
    return content.decode()


def _make(path: Path) -> bool:
    """Create the file atomically, readable by its owner alone; False if it exists."""
    if path.exists():
        path.chmod(0o600)
        return False
    draft = path.with_name(f"token.{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(draft, path)
    except FileExistsError:  # created by another process first
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
