"""Commands that refuse repeated options, and whose errors name options as typed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
import typer.core
from pydantic import ValidationError
from rich.markup import escape
from typing_extensions import override

from nngp_prior.cli.common.groups import expanded
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import explain

F = TypeVar("F", bound=Callable[..., Any])
# Option names that differ from the library's names of fields and arguments; the first one given applies.
_OTHER_NAMES = {
    "K": "kernel_file",
    "X": "inputs_file",
    "dataset": "inputs_file",
    "Y": "labels_file",
    "labels": "labels_file",
    "y": "labels_file",
    "layers": "depth",
    "channels": "width",
    "sizes": "m",
    "strength": "flatness",
}

_PANELS = {
    "Inputs": "data n split data_seed classes bits encoding leave_out_zero preprocessing inputs_file kernel_file "
    "trained network",
    "Labels": "labelling corrupt corrupt_seed labels_file label_classes",
    "Architecture": "architecture depth blocks readout input_channels activation layer_norm weight_std bias_std width "
    "monte_carlo",
    "Method": "method particles replicates target_stderr max_replicates max_sweeps draws link noise_variance jitter "
    "seed dtype loss",
    "Service": "url job_name job_tags get",
    "Output": "out plot csv json quiet state checkpoint",
}
_PANEL_OF = {parameter: panel for panel, parameters in _PANELS.items() for parameter in parameters.split()}


_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)


class App(typer.Typer):
    """Group of commands, each a :class:`Command`; all take ``-h``, and their parameters may be option groups.

    Args:
        **options: options of ``typer.Typer``.
    """

    def __init__(self, **options: Any) -> None:
        names = {"help_option_names": ["-h", "--help"]}
        super().__init__(no_args_is_help=True, context_settings=names, **options)

    @override
    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        register = super().command(name, **{"cls": Command, **options})

        def registered(command: F) -> F:
            register(expanded(command))
            return command

        return registered


class Command(typer.core.TyperCommand):
    """Command of this package: options in panels; its help is the function's docstring without its sections.

    Raises:
        InvalidInput: if an option with one value is given twice; and errors of the command, with option names for
        field names.
    """

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_SECTION.split(help or "")[0].strip(), **options)
        for parameter in self.params:
            if isinstance(parameter, typer.core.TyperOption):
                parameter.help = escape(parameter.help or "")  # brackets around defaults are not markup
                parameter.rich_help_panel = parameter.rich_help_panel or _PANEL_OF.get(parameter.name or "")

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(order).items():
            if times > 1 and parameter.param_type_name == "option" and not parameter.multiple:
                raise InvalidInput(_flag(parameter), f"was given {times} times", "Give it once.")
        return super().parse_args(ctx, args)

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            with _explained():
                return super().invoke(ctx)
        except InvalidInput as error:
            raise _as_typed(error, ctx) from error


@contextmanager
def naming(names: Mapping[str, str], otherwise: str | None = None) -> Iterator[None]:
    """Rename fields to options in errors raised inside.

    Args:
        names: options by field (the last part of ``mnist.split``).
        otherwise: option for all other fields, which is named in addition to the field; default: these are unchanged.

    Raises:
        InvalidInput: for errors raised inside, ``ValidationError`` included, with option names.
    """
    try:
        with _explained():
            yield
    except InvalidInput as error:
        option = names.get(error.field.rpartition(".")[2], otherwise)
        raise InvalidInput(*_renamed(error, option, error.field in names)) from error


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise explain(error) from None


def _as_typed(error: InvalidInput, ctx: Any) -> InvalidInput:
    """Return an error that names the option of its field, if there is one."""
    parameters = {parameter.name: parameter for parameter in ctx.command.params if parameter.opts[0].startswith("-")}
    flags = {name: _flag(parameter) for name, parameter in parameters.items()}
    flags |= {"classes": flags["label_classes"]} if "label_classes" in flags else {}
    remedy = re.sub(r"\b([a-z_]+)=(?=\w)", lambda m: f"{flags[m[1]]} " if m[1] in flags else m[0], error.remedy)
    error = InvalidInput(error.field, error.problem, remedy)
    name = error.field.rpartition(".")[2].replace("-", "_")
    other = _OTHER_NAMES.get(name, "")
    if name in parameters:
        return InvalidInput(*_renamed(error, _flag(parameters[name]), error.field.replace("-", "_") == name))
    if ctx.params.get(other) is not None:
        return InvalidInput(*_renamed(error, _flag(parameters[other]), False))
    return error


def _renamed(error: InvalidInput, option: str | None, same: bool) -> tuple[str, str, str]:
    """Return field, problem and remedy with the field as an option, followed by its own name unless they agree."""
    field = error.field if option is None else option if same else f"{option} ({error.field})"
    return field, error.problem, error.remedy


def _flag(parameter: Any) -> str:
    return max(parameter.opts, key=len)
