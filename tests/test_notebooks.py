"""The notebooks run from top to bottom, and are committed as a run has left them.

One is run again, in place and with its full settings, by

    jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False NOTEBOOK
"""

import ast
import csv
import io
import os
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 2 * 2**20  # of all together
RECORDED = re.compile(r'RECORDED = """(.*?)"""', re.DOTALL)
SECONDS = 300  # for one cell on a busy machine; a notebook takes a few

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def complaints(notebook):
    """What a run has written to stderr: warnings and progress bars."""
    return [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


@each_notebook
def test_it_runs_without_a_warning_and_leaves_nothing(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_MFCVAE_QUICK", "1")
    if data := os.environ.get("PYRO_MFCVAE_DATA"):  # may be relative to where the tests were started
        monkeypatch.setenv("PYRO_MFCVAE_DATA", str(Path(data).absolute()))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))  # the user's own stay out of it
    folder = tmp_path / "run"
    folder.mkdir()
    notebook = read(path)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    assert complaints(notebook) == []
    assert list(folder.iterdir()) == []


@each_notebook
def test_it_is_committed_as_a_run_has_left_it(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # in order, none empty
    kinds = {output.output_type for output in outputs(notebook)}
    assert "display_data" in kinds  # pictures
    assert "error" not in kinds
    assert complaints(notebook) == []
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells if cell.metadata] == []  # no times of execution, no tags


@each_notebook
def test_no_path_of_a_machine_is_in_it(path):
    notebook = read(path)
    texts = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        texts += [output.get("text", ""), *map(str, output.get("data", {}).values())]
    place = r"(?<![\w.:/])/(?:home|mnt|opt|root|tmp|usr|var|work|Users)/|[A-Z]:\\Users|site-packages"
    assert [text for text in texts if re.search(place, text)] == []


@each_notebook
def test_its_first_cells_say_what_it_needs(path):
    """And nothing else is imported."""
    notebook = read(path)
    title, setup = notebook.cells[0], code_cells(notebook)[0]
    assert title.cell_type == "markdown"
    assert title.source.startswith("# ")
    (needs,) = re.findall(r"^\*\*Needs:\*\* .*", title.source, re.MULTILINE)
    assert 'QUICK = os.environ.get("PYRO_MFCVAE_QUICK") == "1"' in setup.source

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    declared = {re.split(r"[><=~! ]", requirement)[0] for requirement in requirements}
    for name in sorted(imported("\n".join(python(cell.source) for cell in code_cells(notebook)))):
        known = name in sys.stdlib_module_names or name == "pyro_mfcvae"
        assert known or declared & set(distributions().get(name, [])) or f"`{name}`" in needs, name


@cache
def distributions():
    """What each importable package was installed from."""
    return packages_distributions()


def python(source):
    """A cell without magics and commands to the shell."""
    return "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))


def imported(source):
    """Top-level packages that Python code imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names


def test_all_together_are_small():
    assert NOTEBOOKS
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MAX_BYTES


def test_the_recorded_runs_of_mnist_are_those_of_the_benchmark():
    """The notebook has a copy, since those who install the package have no folder of tests."""
    notebook = read(ROOT / "notebooks" / "06_mnist_reproduction.ipynb")
    (copy,) = [match[1] for cell in code_cells(notebook) if (match := RECORDED.search(cell.source))]
    copied = list(csv.DictReader(io.StringIO(copy)))
    results = ROOT / "tests" / "benchmarks" / "results.csv"
    with results.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["row"] in ("mnist", "paper_mnist")]
    assert copied == [{name: row[name] for name in copied[0]} for row in rows]
