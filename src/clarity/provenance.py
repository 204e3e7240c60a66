"""Provenance: owns the record of how a result came to be, and the hash of the code of a stage."""

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clarity import __version__, signatures

PACKAGE = Path(__file__).parent

#: How a recipe names a class of the user's own.
OWN_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: The libraries whose version may change a result.
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pytorch-metric-learning",
    "timm",
    "torchmetrics",
    "pytorch-ood",
    "captum",
    "zennit",
    "scikit-image",
    "quantus",
    "pandas",
    "pyarrow",
    "snakemake",
)


def environment() -> dict[str, Any]:
    """Return versions, git state and host, for a manifest."""
    return {
        "versions": {
            "python": platform.python_version(),
            "clarity-xai": __version__,
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "git": git_state(),
        "host": {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether files differ from it; nulls outside a checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(PACKAGE), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--", str(PACKAGE))
    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": None if changes is None else bool(changes),
    }


def processor() -> str:
    """Return the processor's name as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: Any) -> str:
    """Return the name of a torch device: the GPU's model or "cpu"."""
    if device.type == "cuda":
        # Imported here: the Snakefile reads this module and must not load torch.
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    return str(device.type)


def stage_hash(module: str) -> str:
    """Hash the source of ``module`` and of all of CLarity that it imports, however indirectly.

    It goes into the parameters of a rule: Snakemake reruns a stage when its code has changed, which
    it cannot see by itself, since the rules call functions of an installed package.
    """
    total = hashlib.sha256()
    for name in sorted(closure(module)):
        total.update(name.encode() + b"\0" + _file(name).read_bytes() + b"\0")
    return total.hexdigest()[:16]


def own_code(recipe: Any) -> str:
    """Hash the source of the user's own classes that a recipe names; "" if it names none.

    It goes where `stage_hash` goes. Of a class only the file of its module is looked at.

    Args:
        recipe: plain values, in which an own class is a text "module:Class".
    """
    files = [signatures.file_of(module) for module in sorted(set(_own_modules(recipe)))]
    sources = [file.read_bytes() for file in files if file is not None]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16] if sources else ""


def _own_modules(value: Any) -> Iterator[str]:
    """Yield the modules of all texts "module:Class" in plain values."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _own_modules(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _own_modules(item)
    elif isinstance(value, str) and OWN_CLASS.fullmatch(value):
        yield value.partition(":")[0]


def closure(module: str) -> set[str]:
    """Return ``module`` and every module of CLarity that it imports, however indirectly."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= imports(name) - found
    return found


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Return the modules of CLarity that ``module`` names in its import statements.

    Read from the source without running it; an import inside a function counts.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(_file(module).read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(
        name for name in names if name.split(".")[0] == PACKAGE.name and _file(name).exists()
    )


def _file(module: str) -> Path:
    """Return the source file of a module of CLarity."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
