"""Sphinx's settings for the site of `make docs`; `build.py` gathers the pages."""

import re
import sys

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import pyro_mfcvae

project = "pyro_mfcvae"
author = "The pyro_mfcvae developers"
version = release = pyro_mfcvae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # mathematics is readable without a network
    "myst_nb",
]
root_doc = "index"

# Public names are documented as users write them, mf.mcmc and not the module that it lives in.
for _name, _module in vars(pyro_mfcvae).items():
    if _name in pyro_mfcvae.__all__ and isinstance(_module, type(sys)):
        sys.modules[f"pyro_mfcvae.{_name}"] = _module

autodoc_inherit_docstrings = False  # an override without a docstring is described where it overrides
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False  # build.py writes the pages
add_module_names = False
napoleon_attr_annotations = False  # types are in the signature
maximum_signature_line_length = 90
python_display_short_literal_types = True

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs

html_theme = "furo"
html_title = f"pyro_mfcvae {version}"
html_copy_source = False
html_css_files = ["site.css"]
html_show_copyright = False
html_static_path = ["static"]
pygments_style = "friendly"

nitpicky = True  # a role that leads nowhere is an error
suppress_warnings = ["myst.header"]  # notebooks may begin a section with a smaller heading

# Of which names stay text: their own pages are elsewhere.
LIBRARIES = ("abc", "arviz", "collections", "matplotlib", "numpy", "pandas", "pyro", "torch", "xarray")


def link(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Resolve what Sphinx cannot: a short name that only one documented object has.

    Types, and names that are private or of other libraries, stay text. None is for misspelt names.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.domains.python_domain
    found = [
        name
        for name, entry in domain.objects.items()
        if f".{name}".endswith(f".{target}") and not entry.aliased
    ]
    if len(found) == 1:
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, content)
    is_type = not isinstance(content, nodes.literal) or node["reftype"] == "exc"
    is_foreign = target.split(".")[0] in LIBRARIES
    return content if is_type or is_foreign or _exists(target.split(".")[-1]) else None


def _exists(name: str) -> bool:
    """Whether anything in the package, or in a class of it, has this name."""
    modules = [module for path, module in sys.modules.items() if path.startswith("pyro_mfcvae")]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return any(hasattr(value, name) for value in [*modules, *classes])


def prepare(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Say in reST what our docstrings mean.

    The star of a shape ``(N, *shape)`` does not begin emphasis, and what stands before a colon in the first
    line is no type, neither of what is returned nor of an attribute.
    """
    star = re.compile(r"(``.*?``)|(?<=[ (])\*(?=[a-z_.]*shape\b)")
    lines[:] = [star.sub(lambda match: match[1] or r"\*", line) for line in lines]
    lines[:] = [":returns:" if line == "Returns:" else line for line in lines]
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("missing-reference", link)
    app.connect("autodoc-process-docstring", prepare, priority=0)  # before napoleon
