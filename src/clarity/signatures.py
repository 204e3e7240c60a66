"""Signatures: owns reading what a class takes from source text; imports none of what it reads.

A class is looked up as Python would, through the imports of its package, and only the files on that
way and those of its base classes are parsed. Knows nothing of which libraries there are.
"""

import ast
import functools
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

#: Stands for a default that is no plain value, such as a function.
NO_VALUE = object()

#: Base classes from here are not read: they are long, and no argument of theirs is for a config.
NOT_READ = sys.stdlib_module_names | {"torch"}


@dataclass(frozen=True)
class Module:
    """The top level of a source file: its classes, its imports by local name, its star imports."""

    name: str
    is_package: bool
    classes: Mapping[str, ast.ClassDef]
    imports: Mapping[str, str]
    stars: Sequence[str]

    def offers(self) -> list[str]:
        """Return the paths of what others import from it: a package passes its imports on."""
        passed_on = self.imports if self.is_package else ()
        return [f"{self.name}.{name}" for name in [*self.classes, *passed_on]]


@dataclass(frozen=True)
class ClassSource:
    """A class as written, and the module that gives its words a meaning."""

    module: Module
    node: ast.ClassDef

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    def method(self, name: str) -> ast.FunctionDef | None:
        """Return the method ``name`` if the class itself defines it."""
        found = [s for s in self.node.body if isinstance(s, ast.FunctionDef) and s.name == name]
        # The last stands, as in Python: those before it may be typing's overloads.
        return found[-1] if found else None

    def bases(self) -> Iterator["ClassSource"]:
        """Yield the base classes that can be read."""
        for base in self.node.bases:
            # `Metric[List[float]]` is the class Metric.
            name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            # `class Loss(Loss)` extends the Loss that was imported, not itself.
            shadows = name == self.name
            path = self.module.imports.get(name, "") if shadows else f"{self.module.name}.{name}"
            found = resolve(path)
            if found is not None:
                yield found

    def lineage(self) -> list["ClassSource"]:
        """Return the class and its bases in the order in which Python looks for a method."""
        empty: dict[str, type] = {}

        def shadow(source: ClassSource) -> type:
            key = f"{source.module.name}.{source.name}"
            if key not in empty:
                # Empty classes with the same bases: Python itself puts them into order.
                bases = tuple(shadow(base) for base in source.bases())
                empty[key] = type(source.name, bases, {"source": source})
            return empty[key]

        return [vars(kind)["source"] for kind in shadow(self).__mro__[:-1]]


def module(name: str) -> Module | None:
    """Read a module, without importing it or its packages; None if there is no source of it.

    A module is looked for on the import path, then in the working directory.

    Raises:
        SyntaxError: if it is not Python.
    """
    file = file_of(name)
    return None if file is None else _parse(name, file, file.name == "__init__.py")


def file_of(name: str) -> Path | None:
    """Return the source file of a module, found as `module` does; None if there is none."""
    spec = _spec(name, os.getcwd(), *sys.path)
    if spec is None or not str(spec.origin).endswith(".py"):
        return None
    return Path(str(spec.origin))


def resolve(path: str, _seen: frozenset[str] = frozenset()) -> ClassSource | None:
    """Follow ``package.module.Class`` through imports to the class; None if it cannot be read."""
    parts = path.split(".")
    if path in _seen or parts[0] in NOT_READ:
        return None
    for cut in range(len(parts) - 1, 0, -1):
        found = module(".".join(parts[:cut]))
        if found is None:
            continue
        name, rest = parts[cut], parts[cut + 1 :]
        if name in found.classes and not rest:
            return ClassSource(found, found.classes[name])
        via = (
            [found.imports[name]] if name in found.imports else [f"{s}.{name}" for s in found.stars]
        )
        sources = (resolve(".".join([target, *rest]), _seen | {path}) for target in via)
        return next((source for source in sources if source), None)
    return None


def attributes(lineage: Sequence[ClassSource]) -> dict[str, str]:
    """Return the attributes that classes set in their bodies, as written."""
    found: dict[str, str] = {}
    for source in reversed(lineage):
        for statement in source.node.body:
            match statement:
                case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value):
                    if value is not None:
                        found[name] = ast.unparse(value)
    return found


def signature(
    lineage: Sequence[ClassSource], name: str
) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return what a method takes by keyword, and whether it takes more than the source tells.

    As long as a method passes its ``**kwargs`` on to the method that it extends, what that one
    takes counts too, except for what it is passed anyway.
    """
    found: dict[str, inspect.Parameter] = {}
    settled: set[str] = set()
    positional = 0
    place = 0
    while place < len(lineage):
        method = lineage[place].method(name)
        if method is None:
            if any("dataclass" in ast.unparse(d) for d in lineage[place].node.decorator_list):
                return found, name == "__init__"  # written by the decorator from the fields
            place += 1
            continue
        own = _parameters(method, attributes(lineage[place:]))
        found |= {p.name: p for p in own[positional:] if p.name not in settled}
        settled |= {p.name for p in own}
        if method.args.kwarg is None:
            return found, False
        kwargs = method.args.kwarg.arg
        later = [source.name for source in lineage[place + 1 :]]
        passed_on = _passed_on(method, kwargs, later)
        if passed_on is None:
            return found, any(isinstance(n, ast.Name) and n.id == kwargs for n in ast.walk(method))
        call, skipped, positional = passed_on
        settled |= {keyword.arg for keyword in call.keywords if keyword.arg}
        place += 1 + skipped
    # At the end with keywords left, whoever takes them cannot be read.
    return found, bool(settled)


def _passed_on(
    method: ast.FunctionDef, kwargs: str, later: Sequence[str]
) -> tuple[ast.Call, int, int] | None:
    """Return the call by which a method gives its ``**kwargs`` to the method that it extends.

    Args:
        method: the method.
        kwargs: how it calls them.
        later: the classes after its own, in Python's order.

    Returns:
        The call, how many of the later classes it passes over, and how many arguments it gives by
        position; or None.
    """
    for node in ast.walk(method):
        if not isinstance(node, ast.Call) or not any(
            keyword.arg is None and ast.unparse(keyword.value) == kwargs
            for keyword in node.keywords
        ):
            continue
        owner, _, called = ast.unparse(node.func).removesuffix(".__wrapped__").rpartition(".")
        by_position = sum(not isinstance(argument, ast.Starred) for argument in node.args)
        if called == method.name and owner.startswith("super("):
            return node, 0, by_position
        base = owner.rpartition(".")[2]
        if called == method.name and base in later:  # Base.__init__(self, ...)
            return node, later.index(base), by_position - 1
    return None


def _parameters(method: ast.FunctionDef, constants: Mapping[str, str]) -> list[inspect.Parameter]:
    """Return the parameters of a method after ``self``, and each ``kwargs["key"]`` that it reads.

    Defaults may be class attributes: ``constants``, as written.
    """
    arguments = method.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = [None] * (len(positional) - len(arguments.defaults))
    described = [
        *zip(positional, [*required, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    parameters = [
        inspect.Parameter(
            argument.arg,
            inspect.Parameter.KEYWORD_ONLY
            if argument in arguments.kwonlyargs
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=_value(default, constants),
            annotation=ast.unparse(argument.annotation)
            if argument.annotation
            else inspect.Parameter.empty,
        )
        for argument, default in described[min(1, len(positional)) :]
    ]
    for node in ast.walk(method) if arguments.kwarg else ():
        match node:
            case ast.Subscript(ast.Name(name), ast.Constant(str(key)), ast.Load()):
                if arguments.kwarg and name == arguments.kwarg.arg:
                    parameters.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY))
    return parameters


def _value(default: ast.expr | None, constants: Mapping[str, str]) -> object:
    """Return the value of a default, if it is plain or names a class attribute that is."""
    if default is None:
        return inspect.Parameter.empty
    text = ast.unparse(default)
    try:
        return ast.literal_eval(constants.get(text, text))
    except ValueError:
        return NO_VALUE


@functools.cache
def _spec(name: str, folder: str, *path: str) -> ModuleSpec | None:
    """Find a module below the import path, or in ``folder``; the path is the cache's key only."""
    top, *rest = name.split(".")
    if not all(part.isidentifier() for part in (top, *rest)) or top == "__main__":
        return None
    # Only the top level: to find a submodule, importlib would import its package.
    spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, [folder])
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, spec.submodule_search_locations)
    return spec


@functools.cache
def _parse(name: str, file: Path, is_package: bool) -> Module:
    """Read the classes and imports at the top level of a file."""
    classes: dict[str, ast.ClassDef] = {}
    imports: dict[str, str] = {}
    stars: list[str] = []
    package = name.split(".") if is_package else name.split(".")[:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Quantus has invalid escapes, of which Python would warn
        tree = ast.parse(file.read_bytes(), str(file))
    for statement in _statements(tree.body):
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                whole = alias.asname or alias.name.partition(".")[0]
                imports[whole] = alias.name if alias.asname else whole
        elif isinstance(statement, ast.ImportFrom):
            above = package[: len(package) + 1 - statement.level] if statement.level else []
            origin = ".".join([*above, *([statement.module] if statement.module else [])])
            for alias in statement.names:
                if alias.name == "*":
                    stars.append(origin)
                else:
                    imports[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return Module(name, is_package, classes, imports, stars)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under `if` and `try` included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            handlers = getattr(statement, "handlers", ())
            for block in (statement.body, *(h.body for h in handlers), statement.orelse):
                yield from _statements(block)
