"""Pages of the site that come from elsewhere: tables of benchmarks, commands with options, routes of the service."""

from __future__ import annotations

import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\((?:\.\./)+benchmarks/results/")
_NOTEBOOKS = re.compile(r"\]\((?:\.\./)+notebooks/")
_HOME = re.compile(r"\]\((?:\.\./)+README\.md(?:#[\w-]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the results of benchmarks, in the folder ``benchmarks``, the notebooks, and the changelog."""
    for path in sorted((ROOT / "benchmarks" / "results").iterdir()):
        if path.suffix in {".md", ".png"}:
            files.append(_file(config, f"benchmarks/{path.name}", path))
    for path in sorted((ROOT / "notebooks").iterdir()):
        if path.suffix in {".md", ".ipynb"}:
            files.append(_file(config, f"notebooks/{path.name}", path))
    files.append(_file(config, "changelog.md", ROOT / "CHANGELOG.md"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the copies, and fill in commands and routes."""
    del config, files
    up = "../" * page.file.src_uri.count("/")
    markdown = _LINK.sub(f"]({up}benchmarks/", markdown)
    markdown = _NOTEBOOKS.sub(f"]({up}notebooks/", markdown)
    markdown = _HOME.sub(f"]({up}index.md)", markdown)
    if page.file.src_uri == "decisions/README.md":
        return markdown + "\n" + _decisions()
    if page.file.src_uri == "reference/cli.md":
        return markdown.replace("<!-- commands -->", _commands())
    if page.file.src_uri == "reference/http.md":
        return markdown.replace("<!-- routes -->", _routes())
    return markdown


def _file(config: Any, name: str, path: Path) -> File:
    return File.generated(config, name, abs_src_path=str(path))


def _decisions() -> str:
    paths = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    titles = (path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in paths)
    return "\n".join(f"- [{title}]({path.name})" for title, path in zip(titles, paths, strict=True))


def _commands() -> str:
    """Return a section for each command with its options."""
    from nngp_prior.cli import app

    command = typer.main.get_command(app)
    return "\n".join(_sections(command, "nngp-prior"))


def _sections(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        inner = sorted(command.commands.items())
        return [line for key, each in inner if not each.hidden for line in _sections(each, f"{name} {key}")]
    lines = [f"## `{name}`", "", (command.help or "").strip(), ""]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    lines += [f"- `{(each.name or '').upper()}`: {_cell(each.help or '')}" for each in arguments]
    if options:
        records = filter(None, (each.get_help_record(typer.Context(command)) for each in options))
        lines += ["", "| option | |", "|---|---|"]
        lines += [f"| `{spelling}` | {_cell(text)} |" for spelling, text in records]
    return [*lines, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _routes() -> str:
    """Return a table of the routes of the service."""
    from api.app import create_app
    from api.settings import ServerSettings

    with tempfile.TemporaryDirectory() as home:
        document = create_app(ServerSettings(home=Path(home), token=secrets.token_hex(16))).openapi()
    lines = ["| route | |", "|---|---|"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and "summary" in operation:
                lines.append(f"| `{method.upper()} {path}` | {_cell(operation['summary'])} |")
    return "\n".join(lines)
