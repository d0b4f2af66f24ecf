"""What Pyro finds out about the model by itself, and draws."""

import shutil

import pyro
import pytest
from pyro.infer.inspect import get_dependencies, get_model_relations

GLOBALS = {
    "Bayesian": {"c": ["weights"], "z": ["means", "scales"], "separator": "."},
    "Dirichlet process": {"c": ["sticks"], "z": [], "separator": "_"},
}


@pytest.fixture
def parents(request, model):
    """Of every site of the model."""
    kind = GLOBALS.get(request.node.callspec.params["case"], {"c": [], "z": [], "separator": ""})
    shared, local = {}, {}
    facets = range(len(model.facet_priors))
    for j in facets:
        above = {site: [f"prior_{j}{kind['separator']}{name}" for name in kind[site]] for site in "cz"}
        shared |= {name: [] for names in above.values() for name in names}
        local |= {f"c_{j}": above["c"], f"z_{j}": [*above["z"], f"c_{j}"]}
    return shared | local | {"x": [f"z_{j}" for j in facets]}


@pytest.mark.parametrize("observed", [True, False])
def test_relations(model, x, parents, observed):
    given = {"model_args": (x,)} if observed else {"model_kwargs": {"data_size": 3}}
    relations = get_model_relations(model.model, **given)
    assert relations["sample_sample"] == parents
    assert relations["plate_sample"] == {"data": [name for name in parents if name[:2] in ("c_", "z_", "x")]}
    assert relations["observed"] == ["x"] * observed
    assert relations["param_constraint"] == {name: "Real()" for name, _ in model.named_parameters()}
    assert relations["sample_dist"]["c_0"] == "Categorical"
    assert relations["sample_dist"]["z_0"] == "Normal"


def test_relations_of_the_guide(model, x):
    relations = get_model_relations(model.guide, model_args=(x,))
    assert relations["plate_sample"] == {"data": list(model.latent_sites)}
    for name in model.latent_sites:
        assert relations["sample_sample"][name] == []


def test_facets_meet_in_the_data_alone(model, x):
    """Given x, the z of one facet depend on those of another, and c depends on its own z."""
    dependencies = get_dependencies(model.model, model_args=(x,))["posterior_dependencies"]
    assert {"z_0", "z_1", "x"} <= set(dependencies["z_0"])
    assert {"z_0"} == {name for name in dependencies["c_0"] if name[0] == "z"}


def test_the_graph_of_render_model(model, x, parents):
    pytest.importorskip("graphviz")
    graph = pyro.render_model(model.model, model_args=(x,), render_distributions=True)
    for site, above in parents.items():
        for parent in above:
            assert f'"{parent}" -> ' in graph.source or f"{parent} -> " in graph.source
        assert f"{site} ~ " in graph.source
    assert graph.source.count("->") == sum(len(above) for above in parents.values())
    assert "subgraph cluster_data" in graph.source


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_the_picture_of_render_model(model, x, tmp_path):
    pytest.importorskip("graphviz")
    pyro.render_model(model.model, model_args=(x,), filename=str(tmp_path / "model.png"))
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
