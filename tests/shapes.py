"""Import hook that has shapes checked at run time, as jaxtyping's own has, but of fewer functions.

``jaxtyping.install_import_hook`` wraps all functions, nested ones again at each call of the outer function, which takes
a sixth of the tests' time. Here the functions, methods and dataclasses of a module are wrapped if an annotation of
theirs has a shape; types without shapes are for basedpyright.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

import beartype
import jaxtyping

checked = jaxtyping.jaxtyped(typechecker=beartype.beartype)


def check_shapes(packages: Sequence[str]) -> None:
    """Have shapes checked in modules of these packages that are imported from now on."""
    sys.meta_path.insert(0, _Finder(packages))


class _Finder:
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(f"{package}." for package in packages)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not f"{name}.".startswith(self._packages):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Without bytecode on disk, which would be that of the module as it is.
        tree = ast.parse(self.get_data(self.path), self.path)
        shaped = _shaped_names(tree)
        if shaped:
            _Decorator(shaped).visit(tree)
            first = next(i for i, statement in enumerate(tree.body) if not _leads(statement))
            tree.body.insert(first, ast.ImportFrom(__name__, [ast.alias("checked", "_checked")], 0))
            ast.fix_missing_locations(tree)
        return compile(tree, self.path, "exec", dont_inherit=True)


def _leads(statement: ast.stmt) -> bool:
    """True for a docstring and for imports from ``__future__``."""
    future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    return future or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _shaped_names(tree: ast.Module) -> set[str]:
    """Names imported from jaxtyping, and those of the module's own types made of them."""
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "jaxtyping":
            names.update(alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign) and _mentions(statement.value, names):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return names


def _mentions(node: ast.AST | None, names: set[str]) -> bool:
    return node is not None and any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


class _Decorator(ast.NodeVisitor):
    """Decorates what has shapes; functions within functions stay as they are."""

    def __init__(self, shaped: set[str]) -> None:
        self._shaped = shaped

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if _mentions(node.args, self._shaped) or _mentions(node.returns, self._shaped):
            # Last, under jax.custom_jvp and its like.
            node.decorator_list.append(ast.Name("_checked", ast.Load()))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        fields = [statement for statement in node.body if isinstance(statement, ast.AnnAssign)]
        if any(_mentions(field.annotation, self._shaped) for field in fields):
            # First, above the dataclass, whose __init__ is checked.
            node.decorator_list.insert(0, ast.Name("_checked", ast.Load()))
        self.generic_visit(node)
