"""Promises of the catalogue: it says of each class what importing it would, without importing."""

import importlib
import inspect
import subprocess
import sys

import pytest

import clarity.data.recipe  # noqa: F401  registers the data sets of torchvision
from clarity import catalogue, signatures

CLASSES = [(kind, name) for kind in catalogue.LIBRARIES for name in catalogue.names(kind)]
EMPTY = inspect.Parameter.empty


def imported(kind: str, name: str) -> type:
    modules = map(importlib.import_module, catalogue.LIBRARIES[kind].modules)
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def named_parameters(call) -> dict[str, inspect.Parameter]:
    """Return what the signature of a real function names, after `self`."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    return {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def whole(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """Return what the source says of a class before CLarity's own arguments are taken out."""
    lineage = signatures.resolve(path(kind, name)).lineage()
    found: dict[str, inspect.Parameter] = {}
    for call in catalogue.LIBRARIES[kind].calls:
        found = signatures.signature(lineage, call)[0] | found
    return found


def path(kind: str, name: str) -> str:
    module = imported(kind, name).__module__
    return f"{module}.{name}"


@pytest.mark.parametrize(("kind", "name"), CLASSES)
def test_the_source_tells_each_parameter_as_the_imported_class_has_it(kind, name):
    real = imported(kind, name)
    found = whole(kind, name)
    for call in catalogue.LIBRARIES[kind].calls:
        # A method of attribution has `attribute`, and may have `attribute_classes`.
        if hasattr(real, call):
            own = named_parameters(getattr(real, call))
            assert own.keys() <= found.keys()
    for key, parameter in found.items():
        # The nearest class that names the parameter, in Python's own order.
        calls = [
            vars(base)[call]
            for call in catalogue.LIBRARIES[kind].calls
            for base in real.__mro__
            if call in vars(base) and base is not object
        ]
        names = [named for named in map(named_parameters, calls) if key in named]
        if not names:  # read as kwargs["key"]
            assert parameter.default is EMPTY
            continue
        expected = names[0][key]
        if key in named_parameters(calls[0]):
            assert parameter.kind == expected.kind
        if parameter.default is signatures.NO_VALUE:
            assert expected.default is not EMPTY
            assert not isinstance(expected.default, int | float | str | bool | None)
        else:
            assert parameter.default == expected.default
        assert (parameter.annotation is EMPTY) == (expected.annotation is EMPTY)
        if expected.annotation in (int, float, bool, str):
            assert parameter.annotation == expected.annotation.__name__


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, name in CLASSES if kind not in ("attribution", "datasets")],
)
def test_an_argument_is_allowed_just_when_the_imported_class_takes_it(kind, name):
    """Ask the real constructor about every word that any of its bases knows."""
    real = imported(kind, name)
    words: dict[str, object] = {}
    for base in real.__mro__[:-1]:
        if "__init__" in vars(base) and not base.__module__.startswith("torch."):
            for key, parameter in named_parameters(base.__init__).items():
                words.setdefault(key, None if parameter.default is EMPTY else parameter.default)
    words["no_such_word"] = None
    found = whole(kind, name)
    needed = {key: 3 for key, parameter in found.items() if parameter.default is EMPTY}
    for key, value in words.items():
        taken = takes(real, {**needed, key: needed.get(key, value)}, key)
        if kind == "metrics" and key not in found and taken:
            # Quantus swallows any word in silence: a misspelt one would change nothing.
            assert key == "no_such_word"
        else:
            assert taken == (key in found), key


def takes(real: type, arguments: dict[str, object], key: str) -> bool:
    """Whether a constructor minds not the value of ``key`` but that it is given at all."""
    try:
        real(**arguments)
    except TypeError as error:
        minds = ("unexpected keyword argument", "multiple values for")
        return not any(words in str(error) and f"'{key}'" in str(error) for words in minds)
    except Exception:
        return True
    return True


@pytest.mark.parametrize("kind", ["losses", "miners", "distances", "reducers"])
def test_every_public_class_of_pytorch_metric_learning_is_found(kind):
    module = importlib.import_module(f"pytorch_metric_learning.{kind}")
    public = {name for name, member in vars(module).items() if inspect.isclass(member)}
    left_out = {
        name
        for name in public
        if name.startswith(("Base", "Generic", "Multiple")) or name.endswith("Mixin")
    }
    assert set(catalogue.names(kind)) == public - left_out


def test_every_captum_class_that_explains_a_class_of_an_image_is_found():
    import captum.attr

    explains = set()
    for name in captum.attr.__all__:
        method = getattr(getattr(captum.attr, name), "attribute", None)
        if inspect.isfunction(method) and "target" in inspect.signature(method).parameters:
            explains.add(name)
    others = {n for n in explains if n.startswith("Neuron") or "LLM" in n or n == "LimeBase"}
    refused = catalogue.LIBRARIES["attribution"].refused
    assert explains - others - refused.keys() <= set(catalogue.names("attribution"))
    assert refused.keys() <= set(captum.attr.__all__)
    for name, reason in refused.items():
        assert reason in "\n".join(catalogue.check("attribution", name, {}, "x"))


def test_every_metric_of_quantus_is_found_by_its_name():
    import quantus

    known = {m.__name__ for group in quantus.AVAILABLE_METRICS.values() for m in group.values()}
    # Quantus does not list two of its 37 itself.
    assert len(known) >= 35
    assert known <= set(catalogue.names("metrics"))


@pytest.mark.parametrize(("kind", "name"), CLASSES)
def test_no_default_of_a_library_is_called_wrong(kind, name):
    parameters = catalogue.find(kind, name).parameters
    arguments = {
        key: [] if parameter.default is EMPTY else parameter.default
        for key, parameter in parameters.items()
        if parameter.default is not signatures.NO_VALUE
    }
    needed = {key for key in arguments if parameters[key].default is EMPTY}
    problems = catalogue.check(kind, name, arguments, "x")
    assert [p for p in problems if p.split(":")[0].removeprefix("x.") not in needed] == []


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "message"),
    [
        (
            "losses",
            "TripletMarginLos",
            {},
            "x: unknown name 'TripletMarginLos'; did you mean 'Trip",
        ),
        ("losses", "BaseMetricLossFunction", {}, "x: unknown name 'BaseMetricLossFunction'"),
        ("losses", "", {}, "x: unknown name ''. Allowed: AngularLoss, ArcFaceLoss, "),
        ("losses", "triplet_margin_loss.TripletMarginLoss", {}, "x: unknown name 'triplet_margin"),
        (
            "losses",
            "TripletMarginLoss",
            {"margn": 1},
            "x.margn: unknown argument of TripletMarginL",
        ),
        (
            "losses",
            "TripletMarginLoss",
            {"margn": 1},
            "; did you mean 'margin'? It takes: margin, ",
        ),
        ("losses", "TripletMarginLoss", {"zzz": 1}, "argument of TripletMarginLoss. It takes: mar"),
        (
            "losses",
            "TripletMarginLoss",
            {"margin": "big"},
            "x.margin: found 'big' (str), wanted fl",
        ),
        ("losses", "TripletMarginLoss", {"margin": "1e-4"}, "wanted float; write 1.0e-4 for 1e-4"),
        ("losses", "TripletMarginLoss", {"swap": 1}, "x.swap: found 1 (int), wanted bool"),
        (
            "losses",
            "SupConLoss",
            {"temperature": 0},
            "found 0 (int), wanted a number greater than 0",
        ),
        ("losses", "SupConLoss", {"temperature": float("nan")}, "wanted a finite number"),
        ("losses", "FastAPLoss", {"num_bins": 2.5}, "wanted a whole number of at least 1"),
        ("losses", "SupConLoss", {"mat_based_loss": True}, "unknown argument of SupConLoss"),
        (
            "losses",
            "ProxyAnchorLoss",
            {"num_classes": 9},
            "x.num_classes: not an argument for a re",
        ),
        ("losses", "RankedListLoss", {"margin": 1}, "x: RankedListLoss needs the argument 'Tn'"),
        ("miners", "BatchHardMine", {}, "did you mean 'BatchHardMiner'?"),
        (
            "miners",
            "BatchHardMiner",
            {"pos_strategy": "easy"},
            "unknown argument of BatchHardMiner",
        ),
        (
            "reducers",
            "AvgNonZeroReducer",
            {"low": 3},
            "x.low: unknown argument of AvgNonZeroReducer",
        ),
        ("attribution", "IntegratedGradient", {}, "did you mean 'IntegratedGradients'?"),
        ("attribution", "NeuronGradient", {}, "x: unknown name 'NeuronGradient'"),
        ("attribution", "NoiseTunnel", {}, "x: NoiseTunnel cannot be used by name: write `noise: "),
        ("attribution", "Tensor", {}, "x: unknown name 'Tensor'"),
        ("attribution", "IntegratedGradients", {"n_steps": 1.5}, "found 1.5 (float), wanted int"),
        ("attribution", "IntegratedGradients", {"n_steps": True}, "found True (bool), wanted int"),
        (
            "attribution",
            "IntegratedGradients",
            {"n_steps": -1},
            "wanted a whole number of at least",
        ),
        (
            "attribution",
            "IntegratedGradients",
            {"n_steps": None},
            "found None (NoneType), wanted in",
        ),
        ("attribution", "IntegratedGradients", {"rows": 4}, "not an argument for"),
        (
            "attribution",
            "ShapleyValueSampling",
            {"n_sample": 1},
            "mean 'n_samples'",
        ),
        ("attribution", "Occlusion", {}, "x: Occlusion needs the argument 'sliding_window_shapes'"),
        ("attribution", "RandomMap", {"model": 1}, "x.model: not an argument for a recipe to give"),
        ("attribution", "LRP", {"composite": "epsilon"}, "found 'epsilon' (str), wanted 'Epsilon'"),
        ("attribution", "LRP", {"gamma": 0}, "x.gamma: found 0 (int), wanted a number greater"),
        ("attribution", "RISE", {"kept": 1.0}, "wanted a number between 0 and 1"),
        ("attribution", "RISE", {"n_masks": 1}, "wanted a whole number of at least 2"),
        ("attribution", "GradientShap", {"stdevs": float("inf")}, "wanted a finite number"),
        (
            "attribution",
            "Occlusion",
            {"sliding_window_shapes": 8},
            "found 8 (int), wanted list of int",
        ),
        (
            "attribution",
            "Occlusion",
            {"sliding_window_shapes": [0, 8]},
            "wanted a whole number of at least 1",
        ),
        (
            "attribution",
            "Occlusion",
            {"sliding_window_shapes": [8, 8], "strides": 2.5},
            "wanted int or list of int",
        ),
        ("metrics", "PixelFliping", {}, "did you mean 'PixelFlipping'?"),
        ("metrics", "Metric", {}, "x: unknown name 'Metric'"),
        ("metrics", "MaxSensitivity", {"nr_sample": 4}, "did you mean 'nr_samples'?"),
        ("metrics", "MaxSensitivity", {"lower_bound": None}, "found None (NoneType), wanted float"),
        (
            "metrics",
            "PairwiseSimilarity",
            {"similarity": "ssm"},
            "wanted 'cosine' or 'spearman' or",
        ),
    ],
)
def test_a_wrong_call_is_described_with_what_would_be_right(kind, name, arguments, message):
    (problem,) = catalogue.check(kind, name, arguments, "x")
    assert message in problem


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("losses", "TripletMarginLoss", {"margin": 1, "triplets_per_anchor": 5}),
        ("losses", "ContrastiveLoss", {"neg_margin": 0.5}),
        ("losses", "HistogramLoss", {"n_bins": None, "delta": 1}),
        ("losses", "ProxyAnchorLoss", {}),
        ("losses", "CosFaceLoss", {"margin": 0.3}),
        ("losses", "SubCenterArcFaceLoss", {"sub_centers": 2}),
        ("reducers", "AvgNonZeroReducer", {"high": 3}),
        ("attribution", "IntegratedGradients", {"n_steps": 20, "multiply_by_inputs": False}),
        ("attribution", "Lime", {"n_samples": 200, "kernel_width": 0.3}),
        ("attribution", "Occlusion", {"sliding_window_shapes": [3, 8, 8], "strides": 4}),
        ("attribution", "RandomMap", {}),
        ("metrics", "MaxSensitivity", {"upper_bound": None, "lower_bound": 1}),
        ("metrics", "PairwiseSimilarity", {"similarity": "spearman"}),
    ],
)
def test_a_right_call_is_not_complained_about(kind, name, arguments):
    assert catalogue.check(kind, name, arguments, "x") == []


def test_losses_say_what_clarity_is_to_give_them():
    for name in ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss"):
        given = catalogue.find("losses", name).given
        assert {"num_classes", "embedding_size"} <= given
    assert "num_classes" not in catalogue.find("losses", "TripletMarginLoss").given


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(source: str, name: str = "mine.py") -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)

    return write


METHOD = (
    "raise RuntimeError('this module was run')\n"
    "class Mine:\n"
    "    def __init__(self, network, width: int = 3): ...\n"
    "    def attribute(self, images, target, power: 'int | None'): ...\n"
)


def problems(arguments: dict[str, object], name: str = "mine:Mine") -> str:
    return "\n".join(catalogue.check("attribution", name, arguments, "x"))


def test_a_class_of_the_users_own_is_read_without_being_run(own):
    own(METHOD)
    assert problems({"width": 2, "power": None}) == ""
    assert problems({"width": "a", "power": 1}) == "x.width: found 'a' (str), wanted int"
    assert problems({"power": "a"}) == "x.power: found 'a' (str), wanted int or null"
    assert "x: Mine needs the argument 'power'" in problems({})
    assert "x.widht: unknown argument of Mine; did you mean 'width'?" in problems({"widht": 1})
    assert "no class 'Mina' in module 'mine'; did you mean 'Mine'?" in problems({}, "mine:Mina")


def test_a_class_of_the_users_own_may_stand_in_a_package_and_extend_a_library(own):
    own("from .deep import Mine\n", "mypackage/__init__.py")
    own(
        "from captum import attr\n"
        "try:\n    from captum.attr import Saliency\nexcept ImportError:\n    Saliency = object\n"
        "class Mine(attr.IntegratedGradients):\n"
        "    def attribute(self, inputs, target, sharp: bool = False, **more):\n"
        "        return super().attribute(inputs, target=target, n_steps=8, **more)\n"
        "class Saliency(Saliency):\n    pass\n",
        "mypackage/deep.py",
    )
    info = catalogue.find("attribution", "mypackage:Mine")
    assert info.parameters.keys() == {
        "multiply_by_inputs",
        "sharp",
        "method",
    }
    assert info.module == "mypackage.deep"
    assert not info.takes_any
    own_saliency = catalogue.find("attribution", "mypackage.deep:Saliency")
    assert own_saliency.given >= {"abs"}
    assert "mypackage" not in sys.modules


def test_keywords_are_followed_as_python_would_pass_them_on(own):
    own(
        "class Root:\n    def __init__(self, *, deep=1, common=2): ...\n"
        "class Other(Root):\n    def __init__(self, other=1, **more): ...\n"
        "class Named(Root):\n    def __init__(self, first, second, named=1, **rest):\n"
        "        super().__init__(**rest)\n"
        "    def attribute(self, inputs, target, twice=1, wrapped=2): ...\n"
        "class Mine(Other, Named):\n    def __init__(self, model, common=3, **kwargs):\n"
        "        Named.__init__(self, model, 1, **kwargs)\n"
        "    def attribute(self, inputs, target, **kwargs):\n"
        "        return Named.attribute.__wrapped__(self, inputs, target, twice=2, **kwargs)\n"
    )
    parameters = catalogue.find("attribution", "mine:Mine").parameters
    # Past Other, without the two that Named gets by position; `common` is Mine's own.
    assert {key: p.default for key, p in parameters.items()} == {
        "common": 3,
        "named": 1,
        "deep": 1,
        "wrapped": 2,
    }


@pytest.mark.parametrize(
    "source",
    [
        "class Mine:\n    def __init__(self, model, **options):\n        self.o = options\n",
        "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    model: object\n"
        "    width: int = 1\n",
        "from nowhere import Base\nclass Mine(Base):\n    def __init__(self, m, **k):\n"
        "        super().__init__(m, **k)\n",
    ],
)
def test_a_class_of_the_users_own_whose_arguments_are_hidden_is_trusted(own, source):
    own(source + "    def attribute(self, inputs, target): ...\n")
    assert problems({"anything": 1}) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their:Mine", "no Python source of a module 'their'"),
        ("mine.deep:Mine", "no Python source of a module 'mine.deep'"),
        ("..:Mine", "no Python source of a module '..'"),
        (":", "no Python source of a module ''"),
        ("__main__:Mine", "no Python source of a module '__main__'"),
        ("mine:", "no class '' in module 'mine'"),
        ("mine:a.b", "no class 'a.b' in module 'mine'"),
        ("mine:Loop", "no class 'Loop' in module 'mine'"),
        ("mine:Deaf", "'mine:Deaf' has no attribute(..., target)"),
        ("broken:Mine", "broken.py is not Python: invalid syntax (broken.py, line 1)"),
    ],
)
def test_a_class_of_the_users_own_that_cannot_be_used_is_described(own, name, message):
    own("from mine import Loop\nclass Deaf:\n    def attribute(self, inputs): ...\n")
    own("class :\n", "broken.py")
    assert message in problems({}, name)


def test_25_recipes_are_checked_in_a_moment_and_nothing_heavy_is_imported():
    code = (
        "import sys, time\n"
        "from clarity import catalogue\n"
        "names = {'losses': 'TripletMarginLoss SupConLoss ArcFaceLoss CosFaceLoss ProxyAnchorLoss',"
        "'miners': 'BatchHardMiner', 'distances': 'LpDistance', 'reducers': 'MeanReducer',"
        "'attribution': 'Saliency IntegratedGradients LayerGradCam Occlusion GradientShap DeepLift"
        " RandomMap SobelMap', 'metrics': 'PixelFlipping FaithfulnessCorrelation MaxSensitivity"
        " Sparseness RandomLogit Completeness RelevanceMassAccuracy PointingGame"
        " PairwiseSimilarity'}\n"
        "start = time.perf_counter()\n"
        "for kind, words in names.items():\n"
        "    for word in words.split(): catalogue.check(kind, word, {}, 'x')\n"
        "took = time.perf_counter() - start\n"
        "for kind in names: catalogue.names(kind)\n"
        "heavy = {'torch', 'torchvision', 'captum', 'quantus', 'pytorch_metric_learning', 'timm'}\n"
        "print(took, sorted(heavy & sys.modules.keys()))"
    )
    command = [sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    took, imported = done.stdout.split(maxsplit=1)
    print(f"25 recipes: {float(took) * 1000:.0f} ms")
    assert imported.strip() == "[]"
    # 0.05 s where it was written; the bound is for slow disks and busy machines.
    assert float(took) < 1
