"""The token that every request must bear."""

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
    """The token: that of the settings, or the one that is kept under ``NNGP_HOME``, made at the first start.

    Args:
        settings: of the service.

    Returns:
        the token; None where none is asked for.

    Raises:
        InvalidInput: if the file that keeps it is empty or damaged.
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
        # Where it is, and not what it is: what a service writes is kept in journals.
        print(f'    curl -H "Authorization: Bearer $(cat {shlex.quote(str(path))})" {url}', file=sys.stderr, flush=True)
    return token


def token_path(settings: ServerSettings) -> Path:
    """Where a token that was made is kept."""
    return settings.home / "token"


def is_token(given: bytes, token: str) -> bool:
    """Whether what was given is the token; it takes equally long, however much of it is right."""
    return hmac.compare_digest(given, token.encode())


def session_of(token: str) -> str:
    """What a browser keeps for the token: as long as that holds, and without telling it."""
    return hmac.new(token.encode(), b"nngp-prior session", hashlib.sha256).hexdigest()


def _make(path: Path) -> bool:
    """Make the file, whole from the moment that it is there, and for nobody else to read; False if it is there."""
    if path.exists():
        path.chmod(0o600)
        return False
    draft = path.with_name(f"token.{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(draft, path)
    except FileExistsError:  # another process was first
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
