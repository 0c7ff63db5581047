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
    """Return the token of the settings, or else the one under ``NNGP_HOME``, generated at the first start.

    Args:
        settings: settings of the service.

    Returns:
        the token; None if none is required.

    Raises:
        InvalidInput: if its file is empty or damaged.
    """
    if settings.no_token:
        return None
    if settings.token is not None:
        return settings.token.get_secret_value()
    path = token_path(settings)
    private_folder(settings.home)
    made = _make(path)
    content = path.read_bytes().strip()
    if not _PRINTABLE.fullmatch(content):
        problem = "is empty" if not content else "holds other than printable ASCII characters"
        raise InvalidInput("NNGP_TOKEN", f"{path} {problem}", "Remove the file, and a token is made again.")
    token = content.decode()
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
