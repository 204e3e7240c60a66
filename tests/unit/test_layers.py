"""Promises of the architecture: imports point one way, and the Snakefile loads nothing heavy."""

import subprocess
import sys

import pytest

from clarity import provenance

#: From the bottom up. A module may import from its own layer and from those above it in this list.
LAYERS = [
    ("clarity", "clarity.recipes", "clarity.seeds", "clarity.storage", "clarity.grid"),
    (
        "clarity.checkpoints",
        "clarity.locks",
        "clarity.provenance",
        "clarity.runtime",
        "clarity.catalogue",
        "clarity.signatures",
    ),
    ("clarity.data", "clarity.losses", "clarity.models"),
    ("clarity.training",),
    ("clarity.attribution", "clarity.trust"),
    ("clarity.metrics",),
    ("clarity.statistics",),
    ("clarity.tables",),
    ("clarity.figures", "clarity.report"),
    ("clarity.config",),
    ("clarity.stages",),
]


def modules() -> list[str]:
    files = [
        file.relative_to(provenance.PACKAGE.parent) for file in provenance.PACKAGE.rglob("*.py")
    ]
    dotted = [".".join(file.with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in dotted)


def layer(module: str) -> int:
    matches = [
        (len(prefix), level)
        for level, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if module == prefix or module.startswith(prefix + ".")
    ]
    return max(matches)[1]


@pytest.mark.parametrize("module", modules())
def test_no_module_imports_from_above_its_layer(module):
    upward = {name for name in provenance.imports(module) if layer(name) > layer(module)}
    assert not upward


def test_every_module_has_a_layer_of_its_own_and_says_what_it_owns():
    for module in modules():
        assert module == "clarity" or layer(module) >= 0
        source = provenance._file(module).read_text()
        assert source.startswith('"""'), f"{module} does not open with what it owns"


def test_no_two_modules_import_each_other():
    for module in modules():
        for name in provenance.imports(module):
            circular = module != "clarity" and module in provenance.closure(name)
            assert not circular, f"{module} and {name} import each other"


def test_what_the_snakefile_imports_loads_none_of_the_heavy_libraries():
    code = (
        "import sys\n"
        "from clarity.config import load_config\n"
        "from clarity.figures.names import figure_names\n"
        "from clarity.provenance import stage_hash\n"
        "from clarity.tables.names import TABLES\n"
        "heavy = ['torch', 'torchvision', 'captum', 'quantus', 'pytorch_metric_learning', "
        "'sklearn', 'scipy', 'matplotlib', 'cv2']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stage_hash_follows_what_the_stage_imports_and_nothing_else(monkeypatch, tmp_path):
    package = tmp_path / "clarity"
    package.mkdir()
    (package / "__init__.py").write_text('"""Top."""\n')
    (package / "a.py").write_text("from clarity import b\n")
    (package / "b.py").write_text("def f():\n    import clarity.c\n")
    (package / "c.py").write_text("x = 1\n")
    (package / "d.py").write_text("y = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    provenance.imports.cache_clear()
    try:
        assert provenance.closure("clarity.a") == {
            "clarity",
            "clarity.a",
            "clarity.b",
            "clarity.c",
        }
        before = provenance.stage_hash("clarity.a")
        (package / "d.py").write_text("y = 2\n")
        assert provenance.stage_hash("clarity.a") == before
        (package / "c.py").write_text("x = 2\n")
        assert provenance.stage_hash("clarity.a") != before
    finally:
        provenance.imports.cache_clear()
