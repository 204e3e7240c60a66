"""Catalogue: owns what library classes exist and what arguments they take, read from their source.

The config names classes of Captum, Quantus and pytorch-metric-learning. They are checked in every
process that reads the Snakefile, cluster jobs included, and importing those libraries takes seconds.
So their source is parsed, never run: a scan of the package's files tells where a class stands,
`ast` reads that file and those of its base classes.
"""

import ast
import functools
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clarity.recipes import nearest

#: Stands for a default that is no plain value, such as a function.
NO_VALUE = object()

#: Arguments that must be greater than zero, whatever the class; signatures cannot tell.
POSITIVE = {
    "n_steps",
    "n_samples",
    "nr_samples",
    "nr_runs",
    "nt_samples",
    "features_in_step",
    "subset_size",
    "temperature",
    "internal_batch_size",
}


class UnknownName(ValueError):
    """A class that its library does not have; the message names the nearest that it has."""


@dataclass(frozen=True)
class Library:
    """Where the classes of one kind stand, and how they are called.

    Attributes:
        package: the top-level package.
        folder: the folder in it whose classes may be named.
        calls: the methods whose arguments the config may give.
        given: arguments that CLarity gives itself or that no config can give.
        own: a module of CLarity with more classes of this kind.
        without: classes that are no finished members of the kind.
        exports: a file whose ``__all__`` tells which classes are public.
    """

    package: str
    folder: str
    calls: tuple[str, ...] = ("__init__",)
    given: frozenset[str] = frozenset()
    own: str | None = None
    without: re.Pattern[str] = re.compile(r"^Base|Mixin|^Multiple|^_")
    exports: str | None = None


METRIC_LEARNING = frozenset(
    "num_classes embedding_size distance reducer embedding_regularizer weight_regularizer "
    "embedding_reg_weight weight_reg_weight weight_init_func collect_stats kwargs".split()
)
LIBRARIES = {
    "losses": Library("pytorch_metric_learning", "losses", given=METRIC_LEARNING),
    "miners": Library("pytorch_metric_learning", "miners", given=METRIC_LEARNING),
    "distances": Library("pytorch_metric_learning", "distances", given=METRIC_LEARNING),
    "reducers": Library("pytorch_metric_learning", "reducers", given=METRIC_LEARNING),
    "attribution": Library(
        "captum",
        "attr/_core",
        calls=("__init__", "attribute"),
        given=frozenset(
            "model forward_func layer inputs target baselines additional_forward_args device_ids "
            "return_convergence_delta kwargs".split()
        ),
        own="clarity.attribution.controls",
        without=re.compile(r"^Neuron|Base$|LLM"),
        exports="attr/__init__.py",
    ),
    "metrics": Library(
        "quantus",
        "metrics",
        given=frozenset(
            "abs normalise normalise_func normalise_func_kwargs return_aggregate aggregate_func "
            "default_plot_func disable_warnings display_progressbar similarity_func norm_numerator "
            "norm_denominator perturb_func output_func num_classes seed kwargs".split()
        ),
        own="clarity.metrics.contrastivity",
        without=re.compile(r"^_|^Metric$|^BatchedMetric|Base"),
    ),
}


@dataclass(frozen=True)
class Parameter:
    """One argument: its annotation as written, its default, and whether it must be given."""

    annotation: ast.expr | None
    default: object
    required: bool


@dataclass(frozen=True)
class ClassInfo:
    """What the source says of a class.

    Attributes:
        name: its name.
        folder: the folder of its file, below the package: Quantus sorts metrics by category.
        parameters: what the config may give, by name.
        attributes: its class attributes, as written: ``score_direction`` is
            "ScoreDirection.LOWER".
    """

    name: str
    folder: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def names(kind: str) -> list[str]:
    """Return the names of all classes of a kind."""
    library = LIBRARIES[kind]
    root = _package_folder(library.package)
    found = {
        name
        for name, file in _index(root).items()
        if file.is_relative_to(root / library.folder) and not library.without.search(name)
    }
    if library.exports:
        found &= _exported(root / library.exports)
    if library.own:
        own = _module_file(library.own)
        found |= {name for name in _classes(own) if not name.startswith("_")}
    return sorted(found)


@functools.cache
def find(kind: str, name: str) -> ClassInfo:
    """Read a class of a kind, or a user's own "module:Class", from its source.

    Raises:
        UnknownName: if there is no such class; names the nearest that there is.
    """
    library = LIBRARIES[kind]
    if ":" in name:
        module, _, name = name.partition(":")
        file = _module_file(module)
        if name not in _classes(file):
            raise UnknownName(
                f"no class '{name}' in {file}{nearest(name, _classes(file))}"
            )
        index = {class_name: file for class_name in _classes(file)}
        return _read(library, name, index, file.parent)
    if name not in names(kind):
        raise UnknownName(
            f"unknown name '{name}'{nearest(name, names(kind))} Allowed: {', '.join(names(kind))}, "
            f"or module:Class of your own"
        )
    root = _package_folder(library.package)
    index = dict(_index(root))
    if library.own:
        own = _module_file(library.own)
        if name in _classes(own):
            index = {class_name: own for class_name in _classes(own)}
    return _read(library, name, index, root)


def check(kind: str, name: str, arguments: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with calling a class with arguments from the config.

    Args:
        kind: a key of `LIBRARIES`.
        name: the class.
        arguments: what the config gives.
        where: the place in the config, for the messages.

    Returns:
        One message a problem, "place: what was found and what was wanted".
    """
    try:
        info = find(kind, name)
    except UnknownName as error:
        return [f"{where}: {error}"]
    problems = []
    for key, value in arguments.items():
        if key not in info.parameters:
            problems.append(
                f"{where}.{key}: unknown argument of {info.name}{nearest(key, info.parameters)} "
                f"It takes: {', '.join(info.parameters) or 'none'}"
            )
            continue
        wanted = _wanted(info.parameters[key], value)
        if wanted:
            problems.append(
                f"{where}.{key}: found {value!r} ({type(value).__name__}), wanted {wanted}"
            )
        elif key in POSITIVE and isinstance(value, int | float) and value <= 0:
            problems.append(f"{where}.{key}: found {value!r}, wanted a number greater than 0")
    problems += [
        f"{where}: {info.name} needs the argument '{key}'"
        for key, parameter in info.parameters.items()
        if parameter.required and key not in arguments
    ]
    return problems


def _wanted(parameter: Parameter, value: object) -> str | None:
    """Return what a parameter wants if ``value`` is not that, as far as its source tells."""
    kinds = _kinds(parameter.annotation)
    if not kinds and type(parameter.default) in (int, float):
        # Without an annotation, a whole number as the default does not rule out fractions.
        kinds = {"float"}
    elif not kinds and isinstance(parameter.default, bool):
        kinds = {"bool"}
    if parameter.default is None and kinds:
        kinds = kinds | {"None"}
    if not kinds:
        return None
    found = "None" if value is None else type(value).__name__
    if found in kinds or (found == "int" and "float" in kinds):
        return None
    return " or ".join(sorted(kinds))


def _kinds(annotation: ast.expr | None) -> set[str]:
    """Return the plain types that an annotation allows; empty if it allows anything else too."""
    if annotation is None:
        return set()
    if isinstance(annotation, ast.Constant):
        return {"None"} if annotation.value is None else set()
    if isinstance(annotation, ast.Name):
        return {annotation.id} if annotation.id in ("int", "float", "bool", "str") else set()
    parts: list[ast.expr] = []
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        parts = [annotation.left, annotation.right]
    elif isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = annotation.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if annotation.value.id == "Optional":
            parts.append(ast.Constant(None))
        elif annotation.value.id != "Union":
            return set()
    kinds = [_kinds(part) for part in parts]
    return set().union(*kinds) if kinds and all(kinds) else set()


def _read(library: Library, name: str, index: Mapping[str, Path], root: Path) -> ClassInfo:
    """Read a class and its bases from the files that ``index`` names."""
    parameters: dict[str, Parameter] = {}
    attributes: dict[str, str] = {}
    lineage = _lineage(name, index)
    for call in library.calls:
        settled = set(library.given)
        for node in lineage:
            method = next(
                (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == call), None
            )
            if method is None:
                continue
            for key, parameter in _parameters(method).items():
                if key not in settled:
                    parameters.setdefault(key, parameter)
            if method.args.kwarg is None:
                break
            settled |= _passed_on(method)
    for node in lineage:
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                attributes.setdefault(statement.targets[0].id, ast.unparse(statement.value))
    folder = index[name].parent
    below = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else ""
    return ClassInfo(name, below, parameters, attributes)


def _lineage(name: str, index: Mapping[str, Path]) -> list[ast.ClassDef]:
    """Return a class and its bases inside the package, nearest first, each once."""
    if name not in index:
        return []
    node = _classes(index[name])[name]
    found = [node]
    for base in node.bases:
        # `Metric[List[float]]` is the class Metric.
        expression = base.value if isinstance(base, ast.Subscript) else base
        base_name = ast.unparse(expression).rpartition(".")[2]
        if base_name != name:
            found += _lineage(base_name, index)
    # A base that two bases share comes after both, as in Python's own order.
    return [node for i, node in enumerate(found) if node not in found[i + 1 :]]


def _parameters(method: ast.FunctionDef) -> dict[str, Parameter]:
    """Return the arguments of a method, without `self` and the collecting ones."""
    positional = [*method.args.posonlyargs, *method.args.args]
    defaults = [None] * (len(positional) - len(method.args.defaults)) + list(method.args.defaults)
    pairs = [
        *zip(positional[1:], defaults[1:], strict=True),
        *zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True),
    ]
    return {
        argument.arg: Parameter(argument.annotation, _value(default), default is None)
        for argument, default in pairs
    }


def _passed_on(method: ast.FunctionDef) -> set[str]:
    """Return the arguments that a method itself gives to the method that it extends."""
    return {
        keyword.arg
        for node in ast.walk(method)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"super().{method.name}"
        for keyword in node.keywords
        if keyword.arg is not None
    }


def _value(default: ast.expr | None) -> object:
    """Return a default that is a plain value."""
    try:
        return NO_VALUE if default is None else ast.literal_eval(default)
    except ValueError:
        return NO_VALUE


@functools.cache
def _classes(file: Path) -> dict[str, ast.ClassDef]:
    """Return the classes at the top level of a file."""
    tree = ast.parse(file.read_bytes())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


@functools.cache
def _index(root: Path) -> dict[str, Path]:
    """Return the file of every class of a package."""
    found: dict[str, Path] = {}
    for file in sorted(root.rglob("*.py")):
        for name in re.findall(r"^class (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, file)
    return found


@functools.cache
def _exported(file: Path) -> set[str]:
    """Return the names in the ``__all__`` of a file."""
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise UnknownName(f"{file} has no __all__")


@functools.cache
def _package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnknownName(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _module_file(module: str) -> Path:
    """Return the source file of a module on the import path, without importing any of it.

    Raises:
        UnknownName: if there is no such file.
    """
    relative = Path(*module.split("."))
    for folder in [Path(), *map(Path, sys.path)]:
        for file in (folder / relative.with_suffix(".py"), folder / relative / "__init__.py"):
            if file.is_file():
                return file
    raise UnknownName(f"no module '{module}' in the working directory or on the import path")
