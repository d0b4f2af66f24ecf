"""The rooms of the package: imports point down, nothing is circular, and files and functions are short."""

import ast
import graphlib
import itertools
from pathlib import Path

import pytest

import pyro_mfcvae

ROOT = Path(pyro_mfcvae.__file__).parent
# From the lowest to the highest; rooms on one floor do not know each other.
FLOORS = [
    {"_utils"},
    {"networks", "likelihoods", "metrics", "datasets"},
    {"priors", "data"},
    {"config"},
    {"model"},
    {"training"},
    {"posterior"},
    {"results"},
    {"fitting", "plots"},
    {"report", "sklearn"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Methods of what a user holds that open a room above, when they are called.
DOORS = {
    ("pyro_mfcvae.results.fitted", "report"),
    ("pyro_mfcvae.results.comparison", "plots"),
    ("pyro_mfcvae.training.history", "plots"),
}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(name, path):
    """(module, whether it is imported when this one is) for all of the package's modules that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.If))  # such as TYPE_CHECKING
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide where things are"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [each if each in MODULES else node.module for each in names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            if module in MODULES:
                yield module, node not in later


IMPORTS = {name: set(imported(name, path)) for name, path in MODULES.items()}


def room(module):
    return module.split(".")[1] if "." in module else ""


def test_the_root_holds_folders_and_the_public_names():
    held = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert held == {"__init__.py", "__main__.py", "py.typed", *FLOOR}


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) in FLOOR])
def test_imports_point_down(name):
    for module, _ in IMPORTS[name]:
        assert room(module), f"{name} imports the root, which imports everything"
        if room(module) != room(name) and (name, room(module)) not in DOORS:
            assert FLOOR[room(module)] < FLOOR[room(name)], f"{name} climbs to {module}"


def test_doors_are_opened_late():
    for name, above in DOORS:
        reached = {at_once for module, at_once in IMPORTS[name] if room(module) == above}
        assert reached == {False}


def test_no_import_is_circular():
    graph = {name: {module for module, at_once in IMPORTS[name] if at_once} for name in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError


def functions():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield name, node


def statements(node):
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_files_and_functions_are_short():
    for name, path in MODULES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, name
    for name, node in functions():
        assert statements(node) <= 60, f"{name}.{node.name}"


def test_any_is_rare():
    """Of 1,000 lines of code at most 14 say that they take or give anything."""
    found = lines = 0
    for path in MODULES.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
        code = {node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")}
        docs = itertools.chain.from_iterable(
            range(node.lineno, node.end_lineno + 1)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value
        )
        lines += len(code - set(docs))
    assert found / lines <= 0.014, f"{found} times in {lines} lines of code"
