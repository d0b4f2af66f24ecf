"""What the README shows must run."""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pyro_mfcvae as mf

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), re.DOTALL
)


BRIEF = 'mf.Schedule.unmixed(1, epochs=(2, 1), batch_size=96, unmix="auto")'


def block(marker: str) -> str:
    (found,) = [text for text in BLOCKS if marker in text]
    return found


def test_facet_elbo_in_a_program_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    with pyro.get_param_store().scope():
        exec(block("pyro.infer.SVI"), names)
    responsibilities = names["elbo"].responsibilities  # type: ignore[attr-defined]
    with pyro.get_param_store().scope():
        probabilities = responsibilities(names["model"], names["guide"], names["x"])["c"]
    assert torch.equal(probabilities.argmax(-1), torch.tensor([0, 1, 2]))
    assert capsys.readouterr().out.startswith("tensor(")


def test_the_configuration() -> None:
    text = block("mf.MFCVAEConfig(").replace("fitted = mf.fit(dataset, config, seed=0)", "")
    names: dict[str, object] = {}
    exec("import pyro_mfcvae as mf\n" + text, names)
    assert [stage.epochs for stage in names["config"].stages] == [30, 20]  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
@pytest.mark.parametrize("marker", ['"student_t"', "StickBreaking(", "class Ring"])
def test_swapping_the_prior(marker: str) -> None:
    names = {"mf": mf}
    exec(block(marker), names)
    config: mf.MFCVAEConfig = names["config"]  # type: ignore[assignment]
    model = mf.MFCVAE(config, (4,))
    x = torch.rand(60, 4)
    assert model.elbo().differentiable_loss(model.model, model.guide, x, data_size=90).isfinite()
    stages = tuple(dataclasses.replace(stage, steps=3, epochs=None) for stage in config.stages)
    fitted = mf.fit(x, dataclasses.replace(config, schedule=mf.Schedule(stages)), progress=False)
    assert fitted.predict(x).shape == (60, len(config.facets))


def test_several_runs() -> None:
    """As written, but of a small model, and in this process."""
    x = torch.rand(40, 4)
    config = mf.presets.tabular(facets=(mf.Facet(3, 2),), schedule=mf.Schedule.progressive(1, epochs=1))
    names = {"mf": mf, "dataset": x, "x": x, "labels": torch.arange(40) % 2, "config": config}
    text = block("mf.fit(dataset, seeds=range(5))")
    for argument in ("seeds=range(5)", "restarts=5"):
        text = text.replace(f"dataset, {argument}", f"dataset, config, {argument}, workers=1, progress=False")
    exec(text, names)
    fitted, runs = names["fitted"], names["runs"]
    assert fitted.restarts == runs.restarts  # type: ignore[attr-defined]
    assert fitted.seed == runs.best.seed  # type: ignore[attr-defined]


def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"mass": rng.normal(size=40), "island": rng.choice(["Dream", "Biscoe"], 40)})
    table.loc[3, "mass"] = None
    table.to_csv("birds.csv", index=False)
    monkeypatch.setattr(mf, "fit", functools.partial(mf.fit, progress=False))
    tabular = mf.presets.tabular
    short = mf.Schedule.progressive(2, epochs=1)
    monkeypatch.setattr(mf.presets, "tabular", functools.partial(tabular, schedule=short, latent_dims=2))
    names: dict[str, object] = {"mf": mf, "pandas": pd, "labels": table["island"]}
    exec(block("Schema.infer(table)"), names)
    assert list(names["clusters"].columns) == ["facet_0", "facet_1"]  # type: ignore[attr-defined]
    assert not names["whole"].isna().any().any()  # type: ignore[attr-defined]
    assert set(names["drawn"]["island"]) <= {"Dream", "Biscoe"}  # type: ignore[index]
    assert "category  Biscoe, Dream" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.UnmixingWarning")
@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
def test_the_estimator() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4))
    names = {"make_pipeline": make_pipeline, "StandardScaler": StandardScaler, "x": x}
    exec(block("MultiFacetClustering").replace("random_state=0", "random_state=0, steps=(5, 5)"), names)
    assert names["labels"].shape == (40,)  # type: ignore[attr-defined]
    assert len(names["latents"]) == 40  # type: ignore[arg-type]


def test_callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((40, 4), dtype=np.float32)
    config = mf.presets.tabular(facets=(mf.Facet(3, 2),), schedule=mf.Schedule.progressive(1, epochs=3))
    names: dict[str, object] = {"mf": mf, "config": config, "dataset": x}
    exec(block("callbacks=[look"), names)
    assert len(names["table"]) == len(pd.read_csv("history.csv")) == 1  # type: ignore[arg-type]


def test_large_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).random((40, 4), dtype=np.float32))
    config = mf.presets.tabular(facets=(mf.Facet(3, 2),), schedule=mf.Schedule.progressive(1, epochs=1))
    names: dict[str, object] = {"mf": mf, "config": config}
    exec(block('checkpoint_dir="kept"'), names)
    assert names["clusters"].shape == (40, 1)  # type: ignore[attr-defined]
    assert [path.name for path in Path("kept").iterdir()] == ["seed_0.checkpoint"]


@pytest.mark.filterwarnings("ignore")  # ArviZ's own
def test_comparing_priors_and_arviz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, but with few epochs, runs and draws, and in this process."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"mf": mf, "x": torch.randn(60, 6)}
    text = block("mf.compare(")
    for argument, short in {
        "facets=facets[prior]": "facets=facets[prior], schedule=mf.Schedule.progressive(2, epochs=1)",
        "seeds=range(3)": "seeds=range(2), workers=1, progress=False",
    }.items():
        assert argument in text
        text = text.replace(argument, short)
    exec(text, names)
    assert (tmp_path / "comparison.png").exists()
    assert list(names["table"].index) == ["diagonal_gaussian", "full_gaussian"]  # type: ignore[attr-defined]
    exec(block("fitted.to_inference_data(").replace("num_draws=500", "num_draws=100"), names)
    printed = capsys.readouterr().out
    for part in ("log p(x)", "z_0[49, 3]", "elpd_loo", "pareto_k"):
        assert part in printed


def test_the_example_of_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, but with few epochs."""
    monkeypatch.chdir(tmp_path)
    short = f"mf.presets.shapes3d(schedule={BRIEF}), seed=0, progress=False"
    text = block('fitted.save("shapes.mfcvae")')
    assert "mf.presets.shapes3d(), seed=0" in text
    names: dict[str, object] = {}
    exec(text.replace("mf.presets.shapes3d(), seed=0", short), names)
    fitted, again, test = names["fitted"], names["again"], names["test"]
    predicted = [model.predict(test.images) for model in (fitted, again)]  # type: ignore[attr-defined]
    assert (predicted[0] == predicted[1]).all()


@pytest.mark.filterwarnings("ignore")  # of clusters that a short training does not find
def test_how_facets_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """As written, but with few epochs."""
    text = block("mf.plots.dependence(fitted)")
    assert "mf.presets.shapes3d(), seed=0" in text
    short = f"mf.presets.shapes3d(schedule={BRIEF}), seed=0, progress=False"
    names: dict[str, object] = {"mf": mf}
    exec(text.replace("mf.presets.shapes3d(), seed=0", short), names)
    printed = capsys.readouterr().out
    assert "unmixed into facets" in printed or "one latent, unmixed into facet" in printed
    assert "facet 0: components 0 to" in printed
    assert names["coarser"].clusters[0] <= names["fitted"].clusters[0]  # type: ignore[attr-defined]


def test_columns_of_several_kinds() -> None:
    """As written, but for the progress bar."""
    text = block("likelihoods.Mixed(").replace("config, seed=0)", "config, seed=0, progress=False)")
    names: dict[str, object] = {}
    exec(text, names)
    fitted, table, complete = names["fitted"], names["table"], names["complete"]
    clusters = fitted.predict(table)[:, 0]  # type: ignore[attr-defined]
    assert mf.metrics.purity(clusters, names["kind"]) > 0.85  # type: ignore[arg-type]
    assert set(complete[:, 2]) == {0, 1, 2}  # type: ignore[index]


def test_all_likelihoods_are_listed() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for name in mf.likelihoods.available():
        assert f'| `"{name}"` | `{mf.likelihoods.FACTORIES[name].__name__}(' in text


def test_bayesian_mixtures() -> None:
    """As written, but of a small model and with short chains."""
    names: dict[str, object] = {"mf": mf}
    exec(block("mf.priors.BayesianGaussian("), names)
    config = mf.MFCVAEConfig(facets=(mf.Facet(2, 1), names["facet"]))  # type: ignore[arg-type]
    names |= {"fitted": mf.FittedMFCVAE(mf.MFCVAE(config, (6,)), []), "x": torch.rand(50, 6)}
    short = "num_samples=5, warmup_steps=5, kernel='hmc', clusters=[0, 1], progress=False, num_chains=2"
    text = block("fitted.sample_mixture(").replace("num_samples=1_000, num_chains=4", short)
    with pytest.warns(mf.mcmc.SamplingWarning):
        exec(text, names)
    assert names["posterior"].means.shape == (2, 5, 2, 5)  # type: ignore[attr-defined]
