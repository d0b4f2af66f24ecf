"""Build the site: README, notebooks as they were committed, and the public API from its docstrings.

    python .ci/docs/build.py site

Public is what ``pyro_mfcvae.__all__`` and its modules say. Warnings are errors.
"""

import importlib
import inspect
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.cmd.build import build_main

import pyro_mfcvae

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "tests/benchmarks/README.md")
NAVIGATION = """
```{toctree}
:hidden:
:caption: Notebooks
:glob:

notebooks/*
```

```{toctree}
:hidden:
:caption: Reference

%s
```

```{toctree}
:hidden:
:caption: Project

CONTRIBUTING
tests/benchmarks/README
CHANGELOG
```
"""
SEPARATE = ("sklearn",)  # modules that are imported by themselves
# What methods return, and so users meet: public, though imported by nobody.
RESULTS = (
    "Agreement",
    "ComparedModel",
    "ELBOTerms",
    "EpochRecord",
    "Evaluation",
    "FacetAgreement",
    "History",
    "Level",
    "RunScore",
    "RunsEvaluation",
)
THEOREM = """
The ELBO and its theorem
========================

.. automodule:: pyro_mfcvae.model.elbo

:class:`pyro_mfcvae.FacetELBO` is this bound for any Pyro program.
"""


def gather(source: Path) -> None:
    """Write all pages into a folder."""
    for page in PAGES:
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, source / page)
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    api = source / "api"
    api.mkdir()
    (api / "theorem.rst").write_text(THEOREM, encoding="utf-8")
    pages = [*write_package(api), "theorem"]
    for name, value in public(pyro_mfcvae):
        if inspect.ismodule(value):
            write_module(api, name, value)
            pages.append(name)
    for name in SEPARATE:
        write_module(api, name, importlib.import_module(f"pyro_mfcvae.{name}"))
        pages.append(name)
    write_results(api)
    navigation = NAVIGATION % "\n".join(f"api/{page}" for page in [*pages, "results"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (source / "index.md").write_text(readme + navigation, encoding="utf-8")


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Names and values of a module: those of its ``__all__``, or else what it defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return ((name, getattr(module, name)) for name in names)


def write_package(folder: Path) -> list[str]:
    """Write a page for each public class and function of the package itself; return their names."""
    names = []
    for item, value in sorted(public(pyro_mfcvae), key=lambda pair: inspect.isclass(pair[1])):
        if not inspect.ismodule(value):
            text = title(item) + ".. currentmodule:: pyro_mfcvae\n\n" + entry(item, value)
            if inspect.isclass(value):
                text += "   :inherited-members: Module, TraceEnum_ELBO, Sequence, Mapping\n"
            (folder / f"{item}.rst").write_text(text, encoding="utf-8")
            names.append(item)
    return names


def write_module(folder: Path, name: str, module: ModuleType) -> None:
    """Write the page of a module: a table of its names, and each of them."""
    items = list(public(module))
    text = title(f"mf.{name}") + f".. automodule:: pyro_mfcvae.{name}\n\n.. autosummary::\n\n"
    text += "".join(f"   {item}\n" for item, value in items if not isinstance(value, dict))
    text += "".join("\n" + entry(item, value) for item, value in items)
    (folder / f"{name}.rst").write_text(text, encoding="utf-8")


def write_results(folder: Path) -> None:
    """Write the page of the classes that methods return."""
    text = title("What methods return")
    loaded = [module for name, module in sys.modules.items() if name.startswith("pyro_mfcvae.")]
    for name in RESULTS:
        value = next(vars(module)[name] for module in loaded if name in vars(module))
        text += f"\n.. currentmodule:: {value.__module__}\n\n" + entry(name, value)
    (folder / "results.rst").write_text(text, encoding="utf-8")


def entry(name: str, value: Any) -> str:
    """Document one name."""
    if isinstance(value, dict):
        return f".. data:: {name}\n\n   By name: {', '.join(f'``{key}``' for key in value)}.\n"
    if inspect.isclass(value):
        bases = "" if value.__bases__ == (object,) else "   :show-inheritance:\n"
        return f".. autoclass:: {name}\n   :members:\n{bases}"
    return f".. auto{'function' if inspect.isroutine(value) else 'data'}:: {name}\n"


def title(text: str) -> str:
    """Make a heading."""
    return f"{text}\n{'=' * len(text)}\n\n"


def main(out: str) -> int:
    """Build into a folder; the exit code is that of Sphinx."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        gather(source)
        options = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
        return build_main([*options, "-c", str(HERE), "-d", f"{scratch}/trees", str(source), out])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
