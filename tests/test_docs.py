"""The site of `make docs` builds without a warning, and links lead somewhere."""

import importlib.util
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pyro_mfcvae as mf

ROOT = Path(__file__).parents[1]
MISSING = [
    name
    for name in ("furo", "myst_nb", "sphinx", "sphinx-mathjax-offline")
    if not importlib.util.find_spec(name)
]
MARKDOWN = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/benchmarks/README.md"]


class Page(HTMLParser):
    """Anchors, links, and what a page loads by itself."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and attributes.get("href"):
            self.links.add(attributes["href"])
        elif source := attributes.get("src") or (tag == "link" and attributes.get("href")):
            self.loaded.add(source)


@pytest.mark.skipif(bool(MISSING), reason=f"pip install -e '.[docs]' for {', '.join(MISSING)}")
def test_the_site(tmp_path):
    command = [sys.executable, ROOT / ".ci" / "docs" / "build.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = {path: Page(path) for path in tmp_path.rglob("*.html")}

    assert not broken_links(site)
    for page in site.values():  # which can be read without a network
        assert not {link for link in page.loaded if urlsplit(link).netloc}

    anchors = set().union(*(page.anchors for page in site.values()))
    for name in mf.__all__:
        value = getattr(mf, name)
        names = getattr(value, "__all__", []) if inspect.ismodule(value) else None
        wanted = (
            {f"pyro_mfcvae.{name}"} if names is None else {f"pyro_mfcvae.{name}.{item}" for item in names}
        )
        assert wanted <= anchors
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} <= {path.stem for path in site}


def broken_links(site):
    """Those of pages to each other, to their anchors, and to files."""
    broken = []
    for path, page in site.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = site[target].anchors if target in site else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.name}: {link}")
    return broken


@pytest.mark.parametrize("name", MARKDOWN)
def test_links_of_markdown(name):
    path = ROOT / name
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [urlsplit(link) for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert not [link.path for link in links if not link.scheme and not (path.parent / link.path).exists()]


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [mf.__version__]
