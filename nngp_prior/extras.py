"""Optional dependencies (extras): checks and imports."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from typing import Any

from nngp_prior.errors import MissingExtra
from nngp_prior.versions import PACKAGE


def require_extra(extra: str) -> None:
    """Check that all packages of an extra are installed, by this package's own metadata.

    Args:
        extra: name of the extra, as in ``pip install "nngp-prior[plots]"``.

    Raises:
        MissingExtra: if one of them is not installed.
    """
    marker = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    for requirement in metadata.requires(PACKAGE) or ():
        specifier, _, condition = requirement.partition(";")
        if not marker.search(condition):
            continue
        package = re.split(r"[^\w.-]", specifier, maxsplit=1)[0]
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            raise MissingExtra(package, extra) from None


def import_from(extra: str, module: str) -> Any:
    """Import a module of an extra.

    Args:
        extra: name of the extra.
        module: name of the module.

    Returns:
        the module.

    Raises:
        MissingExtra: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(module.partition(".")[0], extra) from None
