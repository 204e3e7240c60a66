"""Promises of the catalogue: it says of each class what importing it would, without importing."""

import importlib
import inspect
import subprocess
import sys

import captum.attr
import pytest
import quantus
from pytorch_metric_learning import distances, losses, miners, reducers

from clarity import catalogue

MODULES = {
    "losses": losses,
    "miners": miners,
    "distances": distances,
    "reducers": reducers,
    "attribution": captum.attr,
    "metrics": quantus,
}
OWN = {
    kind: importlib.import_module(library.own)
    for kind, library in catalogue.LIBRARIES.items()
    if library.own
}
CLASSES = [(kind, name) for kind in catalogue.LIBRARIES for name in catalogue.names(kind)]


def imported(kind: str, name: str) -> type:
    own = OWN.get(kind)
    return getattr(own, name) if own is not None and hasattr(own, name) else getattr(MODULES[kind], name)


def signature(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """Collect arguments from the real classes: an argument counts as long as **kwargs leads on."""
    found: dict[str, inspect.Parameter] = {}
    given = catalogue.LIBRARIES[kind].given
    for call in catalogue.LIBRARIES[kind].calls:
        for base in imported(kind, name).__mro__:
            method = vars(base).get(call)
            if method is None or base is object:
                continue
            parameters = list(inspect.signature(method).parameters.values())[1:]
            open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
            for parameter in parameters:
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    found.setdefault(parameter.name, parameter)
            if not open_ended or base.__module__.startswith("torch."):
                break
    return {key: value for key, value in found.items() if key not in given}


@pytest.mark.parametrize(("kind", "name"), CLASSES)
def test_the_source_tells_the_arguments_that_the_imported_class_has(kind, name):
    expected = signature(kind, name)
    found = catalogue.find(kind, name).parameters
    # What a class itself gives to its base cannot be given again; Python's signatures do not say.
    assert set(found) <= set(expected)
    own = inspect.signature(imported(kind, name).__init__).parameters
    given = catalogue.LIBRARIES[kind].given
    assert {key for key in own if key in expected and key not in given} <= set(found)
    for key, parameter in found.items():
        if key in own:
            assert parameter.required == (own[key].default is inspect.Parameter.empty)
            if parameter.default is not catalogue.NO_VALUE:
                assert own[key].default == parameter.default


def test_every_public_class_of_the_libraries_is_found():
    public = {
        kind: {
            name
            for name, member in vars(module).items()
            if inspect.isclass(member)
            and not name.startswith(("Base", "Multiple"))
            and not name.endswith("Mixin")
        }
        for kind, module in MODULES.items()
        if kind in ("losses", "miners", "distances", "reducers")
    }
    for kind, names in public.items():
        assert names <= set(catalogue.names(kind)), kind
    by_category = quantus.AVAILABLE_METRICS.values()
    every_metric = {name for metrics in by_category for name in map(_class_name, metrics.values())}
    assert every_metric <= set(catalogue.names("metrics"))
    assert len(every_metric) >= 37


def _class_name(metric) -> str:
    return metric.__name__


def test_direction_and_category_of_a_metric_are_those_of_its_class():
    checked = 0
    for name in catalogue.names("metrics"):
        metric = getattr(quantus, name, None)
        if metric is None:
            continue
        attributes = catalogue.find("metrics", name).attributes
        assert attributes["score_direction"] == str(metric.score_direction)
        assert attributes["evaluation_category"] == str(metric.evaluation_category)
        checked += 1
    assert checked >= 37


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "message"),
    [
        ("losses", "TripletMarginLos", {}, "unknown name 'TripletMarginLos'; did you mean 'TripletMarginLoss'?"),
        ("losses", "TripletMarginLoss", {"margn": 1}, "x.margn: unknown argument of TripletMarginLoss; did you mean 'margin'?"),
        ("losses", "TripletMarginLoss", {"margin": "big"}, "x.margin: found 'big' (str), wanted float"),
        ("losses", "TripletMarginLoss", {"swap": 1}, "x.swap: found 1 (int), wanted bool"),
        ("losses", "SupConLoss", {"temperature": 0}, "x.temperature: found 0, wanted a number greater than 0"),
        ("losses", "SupConLoss", {"mat_based_loss": True}, "x.mat_based_loss: unknown argument of SupConLoss"),
        ("miners", "BatchHardMine", {}, "did you mean 'BatchHardMiner'?"),
        ("attribution", "IntegratedGradient", {}, "did you mean 'IntegratedGradients'?"),
        ("attribution", "IntegratedGradients", {"n_steps": 1.5}, "x.n_steps: found 1.5 (float), wanted int"),
        ("attribution", "IntegratedGradients", {"n_steps": True}, "x.n_steps: found True (bool), wanted int"),
        ("attribution", "IntegratedGradients", {"n_steps": -1}, "x.n_steps: found -1, wanted a number greater than 0"),
        ("attribution", "Occlusion", {}, "x: Occlusion needs the argument 'sliding_window_shapes'"),
        ("metrics", "PixelFliping", {}, "did you mean 'PixelFlipping'?"),
        ("metrics", "MaxSensitivity", {"nr_sample": 4}, "did you mean 'nr_samples'?"),
        ("metrics", "MaxSensitivity", {"lower_bound": None}, "x.lower_bound: found None (NoneType), wanted float"),
    ],
)
def test_a_wrong_call_is_described_with_what_would_be_right(kind, name, arguments, message):
    problems = catalogue.check(kind, name, arguments, "x")
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("losses", "TripletMarginLoss", {"margin": 1, "triplets_per_anchor": 5}),
        ("losses", "ProxyAnchorLoss", {}),
        ("attribution", "IntegratedGradients", {"n_steps": 20, "method": "gausslegendre"}),
        ("attribution", "IntegratedGradients", {"internal_batch_size": None}),
        ("metrics", "MaxSensitivity", {"upper_bound": None, "lower_bound": 1}),
        ("attribution", "RandomMap", {}),
    ],
)
def test_a_right_call_is_not_complained_about(kind, name, arguments):
    assert catalogue.check(kind, name, arguments, "x") == []


def test_a_class_of_the_users_own_is_read_without_being_run(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "raise RuntimeError('imported')\n"
        "class Mine:\n    def __init__(self, model, width: int = 3): ...\n"
        "    def attribute(self, inputs, target, power: float): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    assert catalogue.check("attribution", "mine:Mine", {"width": 2, "power": 1}, "x") == []
    assert "wanted int" in catalogue.check("attribution", "mine:Mine", {"width": "a", "power": 1}, "x")[0]
    assert "did you mean 'Mine'?" in catalogue.check("attribution", "mine:Mina", {}, "x")[0]
    assert "no module 'their'" in catalogue.check("attribution", "their:Mine", {}, "x")[0]


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from clarity import catalogue as c\n"
        "for kind in c.LIBRARIES:\n    for name in c.names(kind): c.find(kind, name)\n"
        "print([m for m in ('torch', 'captum', 'quantus', 'pytorch_metric_learning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
