"""Catalogue: owns which library classes a config may name and what it may give to each.

The config is checked in every process that reads the Snakefile, cluster jobs included, and
importing Captum, Quantus or pytorch-metric-learning takes seconds. So their source is read
(`clarity.signatures`), never run. It builds nothing, and does not judge which classes go together.
"""

import ast
import importlib
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clarity import signatures
from clarity.recipes import nearest


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Ranges that no signature tells: what is wanted, the test of it, and the arguments of any class.
RANGES: tuple[tuple[str, Callable[[float], bool], frozenset[str]], ...] = (
    (
        "a whole number of at least 1",
        lambda number: number >= 1 and number % 1 == 0,
        _words(
            "n_steps n_samples nr_samples nr_runs nr_steps n_perturb_samples features_in_step "
            "subset_size patch_size regions_evaluation k n_bins num_bins pos_per_bin neg_per_bin "
            "centers_per_class sub_centers cells sliding_window_shapes strides steps points corpus "
            "nr_segments"
        ),
    ),
    (
        "a whole number of at least 2",
        lambda number: number >= 2 and number % 1 == 0,
        _words("n_masks n grid targets"),
    ),
    ("a number between 0 and 1", lambda number: 0 < number < 1, _words("kept share")),
    ("a number of at least 0 and below 1", lambda number: 0 <= number < 1, _words("confidence")),
    ("a share, at most 1", lambda number: 0 < number <= 1, _words("n_max_percentage")),
    ("a percentage, below 100", lambda number: 0 < number < 100, _words("percentages")),
    ("a number of at least 0", lambda number: number >= 0, _words("stdevs alpha")),
    (
        "a number greater than 0",
        lambda number: number > 0,
        _words(
            "temperature scale softmax_scale eps epsilon gamma stabilizer kernel_width stdev noise "
            "noise_magnitude perturb_std"
        ),
    ),
)


class UnknownName(ValueError):
    """A class that is not there; the message says what was found and the nearest that there is."""


@dataclass(frozen=True)
class Library:
    """Where the classes of one kind stand, and how they are called.

    Attributes:
        modules: what they are imported from; a package offers its imports, a module its classes.
            The first that has a name is meant by it.
        calls: the methods whose arguments the config may give.
        given: arguments that CLarity gives itself, or that no config can give.
        gives_first: whether CLarity also gives the first argument of each call, whatever its name.
        takes: an argument without which the last of the calls is not of the kind.
        without: classes that are no finished members of the kind.
        refused: classes that would fit and cannot be used, by name, and why.
    """

    modules: tuple[str, ...]
    calls: tuple[str, ...] = ("__init__",)
    given: frozenset[str] = frozenset()
    gives_first: bool = False
    takes: str | None = None
    without: re.Pattern[str] = re.compile(r"^_|^Base|^Generic|^Multiple|Mixin$")
    refused: Mapping[str, str] = field(default_factory=dict)


METRIC_LEARNING = _words(
    "num_classes embedding_size distance reducer embedding_regularizer weight_regularizer "
    "embedding_reg_weight weight_reg_weight weight_init_func collect_stats l descriptors_dim"
)
ATTRIBUTION = ("gradients", "adapted", "relevance", "cams", "perturbation", "controls")
#: Where CLarity's metrics are, those of Quantus by category first.
METRICS = (
    "flipping",
    "faithfulness",
    "robustness",
    "localisation",
    "complexity",
    "randomisation",
    "axiomatic",
    "contrastivity",
    "class_maps",
    "mosaics",
    "parts",
    "released",
)
QUANTUS = tuple(
    f"quantus.metrics.{part}"
    for part in (
        "axiomatic",
        "complexity",
        "faithfulness",
        "localisation",
        "randomisation",
        "robustness",
    )
)

LIBRARIES = {
    "losses": Library(("pytorch_metric_learning.losses",), given=METRIC_LEARNING),
    "miners": Library(("pytorch_metric_learning.miners",), given=METRIC_LEARNING),
    "distances": Library(("pytorch_metric_learning.distances",), given=METRIC_LEARNING),
    "reducers": Library(("pytorch_metric_learning.reducers",), given=METRIC_LEARNING),
    "regularizers": Library(("pytorch_metric_learning.regularizers",), given=METRIC_LEARNING),
    "attribution": Library(
        (*(f"clarity.attribution.{part}" for part in ATTRIBUTION), "captum.attr"),
        calls=("__init__", "attribute_classes", "attribute"),
        # How work is cut into passes is no part of a method; `abs` is the recipe's `sign`.
        given=_words(
            "model forward_func layer rows seed inputs target targets baselines feature_mask abs "
            "additional_forward_args device_ids return_convergence_delta internal_batch_size "
            "perturbations_per_eval show_progress grad_kwargs"
        ),
        gives_first=True,
        takes="target",
        # A neuron is no class, and a text no image; LimeBase is what Lime and KernelShap stand on.
        without=re.compile(r"^_|^Neuron|LLM|Base$|^PerClass$|Perturbation$"),
        refused={
            "NoiseTunnel": "write `noise: smoothgrad` beside the method that is to have it",
            "LayerLRP": "LRP to the image is `LRP`",
            "LayerDeepLift": "DeepLift to the image is `DeepLift`",
            "LayerDeepLiftShap": "DeepLiftShap to the image is `DeepLiftShap`",
            "LayerFeatureAblation": "AblationCAM removes channels, FeatureAblation regions",
            "LayerFeaturePermutation": (
                "it permutes within a batch, so that a map would depend on other images"
            ),
            "LayerGradientShap": (
                "it draws for each row of a batch, so that a map would depend on other images; "
                "GradientShap draws the same for all"
            ),
        },
    ),
    "metrics": Library(
        (*(f"clarity.metrics.{part}" for part in METRICS), *QUANTUS),
        given=_words(
            "abs normalise normalise_func normalise_func_kwargs return_aggregate aggregate_func "
            "default_plot_func disable_warnings display_progressbar similarity_func norm_numerator "
            "norm_denominator perturb_func perturb_func_kwargs output_func num_classes seed"
        ),
        refused={
            "ModelParameterRandomisation": "Quantus' former name of `MPRT`",
            "BatchSufficiency": "`Sufficiency` compares all images of the evaluation set",
        },
    ),
}


@dataclass(frozen=True)
class ClassInfo:
    """What the source says of a class.

    Attributes:
        name: its name.
        module: the module that defines it.
        parameters: what the config may give, by name; annotations are text, and a default that is
            no plain value is `clarity.signatures.NO_VALUE`.
        given: what the class takes and CLarity gives.
        takes_any: whether it is a user's own class that takes more than its source tells.
        attributes: the attributes set in the bodies of the class and its bases, as written:
            ``score_direction`` is "ScoreDirection.LOWER".
    """

    name: str
    module: str
    parameters: Mapping[str, inspect.Parameter]
    given: frozenset[str]
    takes_any: bool
    attributes: Mapping[str, str]


def names(kind: str) -> list[str]:
    """Return the names of all classes of a kind."""
    paths = [path for module in LIBRARIES[kind].modules for path in _offered(kind, module)]
    found = {path.rpartition(".")[2] for path in paths if _offered_class(kind, path)}
    return sorted(found - LIBRARIES[kind].refused.keys())


def is_of_quantus(name: str) -> bool:
    """Whether Quantus has a metric of this name, whosever class computes it here."""
    paths = [path for module in QUANTUS for path in _offered("metrics", module)]
    return name in {path.rpartition(".")[2] for path in paths}


def find(kind: str, name: str) -> ClassInfo:
    """Read a class of a kind, or a user's own "module:Class", from its source.

    Raises:
        UnknownName: if there is no such class; names the nearest that there is.
    """
    library = LIBRARIES[kind]
    if ":" in name:
        source = _users_own(name)
        info = _describe(library, source, hidden=True)
        if info is None:
            raise UnknownName(f"'{name}' has no {library.calls[-1]}(..., {library.takes})")
        return info
    if name in library.refused:
        raise UnknownName(f"{name} cannot be used by name: {library.refused[name]}")
    for module in library.modules:
        path = f"{module}.{name}"
        info = _offered_class(kind, path) if path in _offered(kind, module) else None
        if info is not None:
            return info
    known = names(kind)
    raise UnknownName(
        f"unknown name '{name}'{nearest(name, known)} Allowed: {', '.join(known)}, "
        f"or module:Class of your own"
    )


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
    takes = f"It takes: {', '.join(info.parameters) or 'none'}"
    problems = []
    for key, value in arguments.items():
        if key in info.parameters:
            wanted = _wanted(info.parameters[key], value)
            if wanted is not None:
                found = f"{value!r} ({type(value).__name__})"
                problems.append(f"{where}.{key}: found {found}, wanted {wanted}")
        elif key in info.given:
            problems.append(f"{where}.{key}: not an argument for a recipe to give. {takes}")
        elif not info.takes_any:
            near = nearest(key, info.parameters)
            problems.append(f"{where}.{key}: unknown argument of {info.name}{near} {takes}")
    problems += [
        f"{where}: {info.name} needs the argument '{key}'. {takes}"
        for key, parameter in info.parameters.items()
        if parameter.default is parameter.empty and key not in arguments
    ]
    return problems


def _offered(kind: str, module: str) -> list[str]:
    """Return the paths of what a module of a library has for a config to name."""
    found = signatures.module(module)
    if found is None:
        raise UnknownName(f"the module {module} is not installed")
    without = LIBRARIES[kind].without
    return [path for path in found.offers() if not without.search(path.rpartition(".")[2])]


def _offered_class(kind: str, path: str) -> ClassInfo | None:
    """Read what a library offers; None if it is not a class of the kind."""
    source = signatures.resolve(path)
    return None if source is None else _describe(LIBRARIES[kind], source, hidden=False)


def _users_own(name: str) -> signatures.ClassSource:
    """Return the class that "module:Class" names."""
    module, _, word = name.partition(":")
    try:
        found = signatures.module(module)
    except SyntaxError as error:
        raise UnknownName(f"{error.filename} is not Python: {error}") from error
    if found is None:
        raise UnknownName(
            f"no Python source of a module '{module}' in the working directory or on the import "
            f"path"
        )
    source = signatures.resolve(f"{module}.{word}")
    if source is None:
        raise UnknownName(f"no class '{word}' in module '{module}'{nearest(word, found.classes)}")
    return source


def _describe(library: Library, source: signatures.ClassSource, hidden: bool) -> ClassInfo | None:
    """Say what the config may give to a class; None if the class is not of the library's kind.

    What a library takes without saying so in a signature is for its own use, and a typing error
    must not pass for it; a user's own class (``hidden``) is trusted.
    """
    lineage = source.lineage()
    taken: dict[str, inspect.Parameter] = {}
    given: set[str] = set()
    takes_any = False
    for call in library.calls:
        found, more = signatures.signature(lineage, call)
        takes_any |= more and hidden
        given |= library.given & found.keys() | set(list(found)[: library.gives_first])
        taken = found | taken
    if library.takes is not None and library.takes not in found and not (more and hidden):
        return None
    return ClassInfo(
        name=source.name,
        module=source.module.name,
        parameters={key: parameter for key, parameter in taken.items() if key not in given},
        given=frozenset(given),
        takes_any=takes_any,
        attributes=signatures.attributes(lineage),
    )


_TESTS: dict[str, Callable[[object], bool]] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "list of int": lambda value: isinstance(value, list) and all(map(_TESTS["int"], value)),
}


def _wanted(parameter: inspect.Parameter, value: object) -> str | None:
    """Return what a parameter wants if ``value`` is not that, as far as its source tells."""
    allowed = None
    if parameter.annotation is not parameter.empty:
        allowed = _kinds(ast.parse(parameter.annotation, mode="eval").body)
    elif type(parameter.default) in (bool, int, float):
        # A whole number as the default does not rule out fractions, a text not numbers: a loss
        # with `triplets_per_anchor="all"` takes 5 too.
        allowed = {"bool"} if isinstance(parameter.default, bool) else {"float"}
    if allowed is not None:
        allowed |= {"null"} if parameter.default is None else set()
        if not any(_TESTS[k](value) if k in _TESTS else repr(value) == k for k in allowed):
            wanted = " or ".join(sorted(allowed))
            # YAML 1.1 takes 1e-4 for a text.
            is_number = "float" in allowed and re.fullmatch(r"[-+]?\d+e[-+]?\d+", str(value))
            return f"{wanted}; write 1.0e-4 for 1e-4" if is_number else wanted
    numbers: list[Any] = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, float) and not math.isfinite(number):
            return "a finite number"
        for words, test, keys in RANGES:
            counts = isinstance(number, int | float) and not isinstance(number, bool)
            if parameter.name in keys and counts and not test(number):
                return words
    return None


def _kinds(annotation: ast.expr) -> set[str] | None:
    """Return the plain types and the literals that an annotation allows; None if others too."""
    match annotation:
        case ast.Name("int" | "float" | "bool" | "str" as name):
            return {name}
        case ast.Constant(None):
            return {"null"}
        case ast.Constant(str(text)):
            try:
                return _kinds(ast.parse(text, mode="eval").body)
            except SyntaxError:  # any text may stand as an annotation
                return None
        case ast.BinOp(left, ast.BitOr(), right):
            parts = [_kinds(left), _kinds(right)]
        case ast.Subscript(outer, inner):
            inside = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            match ast.unparse(outer).rpartition(".")[2]:
                case "Literal":
                    return {ast.unparse(value) for value in inside}
                case "Sequence" | "list" if ast.unparse(inner) == "int":
                    return {"list of int"}
                case "Optional":
                    parts = [_kinds(inner), {"null"}]
                case "Union":
                    parts = [_kinds(part) for part in inside]
                case _:
                    return None
        case _:
            return None
    return None if None in parts else {kind for part in parts for kind in part or ()}


def load_own(name: str) -> Any:
    """Import a user's own class, "module:Class", from the import path or the working directory.

    Raises:
        UnknownName: if the module has no such class.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        # A job's script has its own folder on the path, not the one that the user works in.
        sys.path.insert(0, os.getcwd())
    found = getattr(importlib.import_module(module), attribute, None)
    if found is None:
        raise UnknownName(f"{name}: the module {module} has no '{attribute}'")
    return found
