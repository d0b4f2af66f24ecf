"""The report's file: the right data in it, nothing that is not escaped, and never too large."""

import base64
import dataclasses
import io
import itertools
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image

from pyro_mfcvae import Facet, FittedMFCVAE, Schedule, fit, likelihoods, presets, priors, report
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.plots.scales import MISSING_RGB
from pyro_mfcvae.report import combinations
from pyro_mfcvae.report.combinations import AMOUNTS, MAX_TILES, Explorer
from pyro_mfcvae.report.findings import find, most_confident
from pyro_mfcvae.report.page import figures, render
from pyro_mfcvae.report.tiles import Pictures, Profiles, drawing
from pyro_mfcvae.training import EpochRecord

SHAPES = {
    "grey": (1, 9, 7),
    "colour": (3, 8, 6),
    "flat": (8, 6),
    "two channels": (2, 5, 4),
    "many channels": (6, 5, 4),
    "bars": (6,),
    "lines": (40,),
    "volume": (2, 2, 3, 3),
}
N = 60
CLUSTERS = (4, 3)


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), and the text within some of them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)
        self.data = json.loads(self.texts["script"][0])

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(text)

    def all(self, tag, name=None):
        classes = [(a.get("class") or "").split() for _, a in self.elements]
        found = zip(self.elements, classes, strict=True)
        return [a for (t, a), names in found if t == tag and (name is None or name in names)]


def written(fitted, folder, x, labels=None, names=None, **options):
    path = fitted.report(folder / "report.html", x, labels, names, **options)
    return Page(path.read_text("utf-8"))


def tile(store, index, size):
    """The pixels of one tile of a sheet; size is (width, height)."""
    sheet = Image.open(io.BytesIO(base64.b64decode(store["sheet"].partition(",")[2])))
    left, top = (index % store["columns"]) * store["cell"][0], index // store["columns"] * store["cell"][1]
    return np.asarray(sheet.crop((left, top, left + size[0], top + size[1]))).astype(int)


@pytest.fixture(scope="module")
def models():
    """For every shape data of four kinds, and a model trained for a moment on them."""

    def make(x_shape):
        rng = np.random.default_rng(0)
        x = rng.uniform(size=(4, *x_shape))[np.arange(N) % 4] + 0.02 * rng.normal(size=(N, *x_shape))
        x = np.clip(x, 0, 1).astype(np.float32)
        config = presets.tabular(
            facets=tuple(Facet(K, 2) for K in CLUSTERS),
            network=FullyConnectedLadder(widths=(64, 64)),
            data_init=False,
            schedule=Schedule.progressive(2, epochs=4, warm_up_epochs=2, batch_size=10, learning_rate=3e-3),
        )
        return fit(x, config, progress=False, precision="float32"), x

    return {name: make(x_shape) for name, x_shape in SHAPES.items()}


@pytest.fixture(scope="module")
def grey(models):
    """A model of small pictures, data, and two labels: one that facet 1 knows, and one that none does."""
    fitted, x = models["grey"]
    labels = np.stack([fitted.predict(x)[:, 1], np.arange(N) // 4 % 2], axis=1)
    return fitted, x, labels


@pytest.mark.parametrize("name", SHAPES)
def test_every_combination_is_there(models, name, tmp_path):
    """Numbers of data and examples are those found by looking at each datum; pictures are at their place."""
    fitted, x = models[name]
    page = written(fitted, tmp_path, x)
    data, c, r = page.data, fitted.predict(x), fitted.predict_proba(x)
    K, L = CLUSTERS
    combinations = [(a, b) for a in range(K) for b in range(L)]
    counts = [int(((c == combination).all(1)).sum()) for combination in combinations]
    assert data["counts"] == counts
    assert sum(counts) == N == data["numData"]
    sure = np.log(r[0].max(-1)) + np.log(r[1].max(-1))
    numbers = [int(text) for text in data["realNames"]]
    assert 0 in counts
    for combination, count, shown in zip(combinations, counts, data["shown"], strict=True):
        shown = [numbers[i] for i in shown]
        if count:
            assert len(shown) == min(count, 6)
            assert (c[shown] == combination).all()
            members = np.flatnonzero((c == combination).all(1))
            np.testing.assert_allclose(sure[shown], np.sort(sure[members])[::-1][: len(shown)], rtol=1e-6)
        else:
            z, means = fitted.transform(x), [_means(fitted, j) for j in range(2)]
            distance = sum(
                np.square(z_j - mean[k]).sum(1) / z_j.var(0).sum()
                for z_j, mean, k in zip(z, means, combination, strict=True)
            )
            np.testing.assert_allclose(distance[shown], np.sort(distance)[: len(shown)], rtol=1e-4)
    draw = drawing(x, own_scales=True)
    at_means = fitted.model.likelihood.mean(
        fitted.model.decode([torch.tensor(_means(fitted, j))[[k[j] for k in combinations]] for j in range(2)])
    )
    expected = draw.tiles(at_means.detach().numpy())
    assert (data["temperatures"][0], data["draws"][0]) == (0, 1)
    _check_tiles(data["generated"][0], draw, expected)
    _check_tiles(data["real"], draw, draw.tiles(x[numbers]))


def _means(fitted, j):
    with torch.no_grad():
        return fitted.model.facet_priors[j].component(torch.arange(fitted.clusters[j])).mean.numpy()


def _check_tiles(store, draw, expected):
    if isinstance(draw, Profiles):
        assert store["paths"] == draw.store(expected)["paths"]
        return
    for i, pixels in enumerate(expected.astype(int)):
        errors = np.abs(tile(store, i, (draw.width, draw.height)) - expected).reshape(len(expected), -1)
        assert errors[i].mean() < 10  # what JPEG may change
        closest = expected[errors.mean(1).argmin()]  # some clusters generate nearly the same
        assert np.abs(pixels - closest).mean() < 3


def test_draws_share_their_noise(grey, tmp_path):
    """At a temperature the latent of a cluster is the same in all combinations, and moves with it."""
    fitted, x, _ = grey
    explorer = Explorer(fitted, find(fitted, x, None, None, 0), drawing(x, own_scales=True), 0)
    plan = explorer.plan(1e7)
    half, full = explorer.latents(plan, 0.5), explorer.latents(plan, 1.0)
    for j in range(2):
        mean = _means(fitted, j)
        np.testing.assert_allclose(2 * (half[j].numpy() - mean), full[j].numpy() - mean, atol=1e-5)
        assert half[j].shape == (plan.draws, CLUSTERS[j], 2)
        assert (half[j].std(0) > 0).all()


def test_cards(grey, tmp_path):
    fitted, x, labels = grey
    page = written(fitted, tmp_path, x, labels, ["kind", "parity"])
    c, r = fitted.predict(x), fitted.predict_proba(x)
    cards = page.all("li", "card")
    assert len(cards) == sum(CLUSTERS)
    evaluation = fitted.evaluate(x, labels, ["kind", "parity"])
    for card in cards:
        j, k = int(card["data-facet"]), int(card["data-number"])
        members = c[:, j] == k
        assert int(card["data-size"]) == members.sum()
        weight = fitted.model.facet_priors[j].weights().probs[k].item()
        assert float(card["data-weight"]) == pytest.approx(weight, abs=1e-6)
        phrases = card["data-phrases"].split("\n")
        assert phrases[:2] == [str(k), f"cluster {k}"]
        if not members.any():
            assert (card["data-confidence"], card["data-purity"], len(phrases)) == ("-1", "-1", 2)
            continue
        assert float(card["data-confidence"]) == pytest.approx(r[j][members].max(-1).mean(), abs=6e-4)
        main = int(evaluation.scores["nmi"][j].argmax())
        counts = np.bincount(labels[members, main])
        assert float(card["data-purity"]) == pytest.approx(counts.max() / members.sum(), abs=6e-4)
        assert f"{('kind', 'parity')[main]} {counts.argmax()}" == phrases[3]
    assert {card["data-facet"] for card in cards} == {"0", "1"}
    assert len(page.all("img", "strip")) == len(cards) + sum(card["data-size"] != "0" for card in cards)
    assert all(image["alt"] for image in page.all("img"))


def test_scores(grey, tmp_path):
    fitted, x, labels = grey
    path = fitted.report(tmp_path / "report.html", x, labels, ["kind", "parity"])
    text = path.read_text("utf-8")
    evaluation = fitted.evaluate(x, labels, ["kind", "parity"])
    assert evaluation.best_facet("kind") == 1
    assert "<strong>kind</strong>: closest is facet 1" in text
    assert "Facet 1, closest to kind" in text
    for values in evaluation.scores.values():
        for value in values.ravel():
            assert f"<td>{value:z.3f}</td>" in text
    assert f"{fitted.score(x):,.2f} nats" in text
    assert "accuracy" not in re.sub("Hungarian accuracy", "", text)


def test_without_labels_nothing_is_scored(grey, tmp_path):
    fitted, x, _ = grey
    page = written(fitted, tmp_path, x)
    assert "purity" not in [a.get("value") for a in page.all("option")]
    assert not any("majority" in text for text in page.texts["label"])
    assert all("digit" not in entry["note"] for facet in page.data["facets"] for entry in facet)


def test_settings_and_training(blobs, make_config, tmp_path):
    x, y = blobs
    fitted = fit(x, make_config(K=CLUSTERS, prior=_ring), progress=False, precision="float32", seed=5)
    page = written(fitted, tmp_path, x, y)
    cells = page.texts["td"]
    assert "_ring" in cells  # by name, not by its address in memory
    assert "Bernoulli(missing=False)" in cells
    assert "adam" in cells
    assert "0.002" in cells
    assert {"4", "5", "float32"} <= set(page.texts["dd"])  # epochs, the seed, and the precision
    environment = fitted.history.environment
    assert {environment.processor, environment.device, *environment.versions.values()} <= set(cells)
    assert len(page.all("polyline")) == 2 + 2 + 2
    points = [line["points"].split() for line in page.all("polyline")]
    assert [len(p) for p in points] == [4, 4, 2, 4, 2, 4]  # facet 0 takes part from the second stage on


def _ring(clusters, latent_dim):
    return priors.DiagonalGaussian()(clusters, latent_dim)


def test_user_text_is_escaped(grey, tmp_path):
    fitted, x, labels = grey
    title = "</title></script><script>alert('&amp;')</script><!-- \u2028 {{ style }}{% raw %}{# $style"
    names = ["<b>bold</b>", "\"quoted\" & </script><script src='x'>"]
    page = written(fitted, tmp_path, x, labels, names, title=title)
    assert len(page.all("script")) == 2
    assert page.all("b") == []
    assert page.texts["title"] == [title]
    assert page.texts["h1"] == [title]
    assert names[0] in "".join(page.texts["strong"])
    assert any(names[1] in name for name in page.data["realNames"])


def test_a_template_that_lacks_something_is_an_error():
    assert "&lt;b&gt;" in render("summary.html", figures={"name": "<b>"})
    with pytest.raises(UndefinedError, match="figures"):
        render("summary.html")


def test_nothing_is_loaded_from_elsewhere(grey, tmp_path):
    fitted, x, labels = grey
    path = fitted.report(tmp_path / "report.html", x, labels)
    text = path.read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|<link|<iframe|fetch\(|XMLHttp", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    page = Page(text)
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))


def test_structure_suits_screen_readers(grey, tmp_path):
    """One h1, no level of heading left out, ids unique, and a label for every control."""
    fitted, x, labels = grey
    path = fitted.report(tmp_path / "report.html", x, labels)
    text = path.read_text("utf-8")
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["for"] for a in page.all("label") if "for" in a]
    assert set(targets) <= set(ids)
    assert page.all("html") == [{"lang": "en"}]
    assert all(a["href"][1:] in ids for a in page.all("a"))
    assert text.count("<label") == len(page.all("input")) + len(page.all("select"))


def test_same_bytes(grey, tmp_path):
    fitted, x, labels = grey
    before = torch.random.get_rng_state()
    first = fitted.report(tmp_path / "a.html", x, labels, seed=1).read_bytes()
    assert fitted.report(str(tmp_path / "b.html"), x, labels, seed=1).read_bytes() == first
    assert fitted.report(tmp_path / "b.html", x, labels, seed=2).read_bytes() != first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sorted(os.listdir(tmp_path)) == ["a.html", "b.html"]


@pytest.mark.parametrize("name", ["colour", "lines"])
def test_size_is_kept(models, name, tmp_path, monkeypatch):
    """With less room there are first fewer pictures of each combination, then fewer clusters."""
    fitted, x = models[name]
    whole = written(fitted, tmp_path, x)
    assert (len(whole.data["temperatures"]), whole.data["draws"][-1]) == (5, 4)
    monkeypatch.setattr(report, "REST", 60_000)
    seen = []
    for room in (260_000, 180_000, 130_000, 104_000, 98_000):
        monkeypatch.setattr(report, "MAX_BYTES", room)
        page = written(fitted, tmp_path, x)
        assert (tmp_path / "report.html").stat().st_size <= room
        kept = tuple(map(len, page.data["facets"]))
        seen.append(kept)
        note = any("More" in text or "more combinations than fit" in text for text in page.texts["p"])
        assert note == (kept != CLUSTERS)
        sizes = np.bincount(fitted.predict(x)[:, 0], minlength=4)
        numbers = [entry["number"] for entry in page.data["facets"][0]]
        assert sorted(sizes[numbers]) == sorted(sizes)[4 - len(numbers) :]
    assert seen[-1] < CLUSTERS


def test_an_estimate_that_is_too_low_is_corrected(models, tmp_path, monkeypatch):
    fitted, x = models["lines"]
    monkeypatch.setattr(report, "MAX_BYTES", 110_000)
    monkeypatch.setattr(report, "REST", 40_000)
    monkeypatch.setattr(combinations, "MARGIN", 0.05)
    budgets = []
    plan = Explorer.plan
    monkeypatch.setattr(Explorer, "plan", lambda self, budget: budgets.append(budget) or plan(self, budget))
    written(fitted, tmp_path, x)
    assert (tmp_path / "report.html").stat().st_size <= 110_000
    assert 1 < len(budgets) < 10


def test_cards_without_room_are_left_out(models, tmp_path, monkeypatch):
    """Those of the smallest clusters, after the pictures of each have become fewer."""
    fitted, x = models["colour"]
    monkeypatch.setattr(report, "MAX_BYTES", 200_000)
    monkeypatch.setattr(report, "GALLERY_SHARE", 0.05)
    page = written(fitted, tmp_path, x)
    cards = [card for card in page.all("li", "card") if card["data-facet"] == "0"]
    sizes = sorted(np.bincount(fitted.predict(x)[:, 0], minlength=4), reverse=True)
    assert 1 <= len(cards) < 4
    assert [int(card["data-size"]) for card in cards] == sizes[: len(cards)]
    assert any(f"The {4 - len(cards)} smallest are left out" in text for text in page.texts["p"])


@pytest.mark.parametrize(("value", "shown"), [(0.25, "0.250"), (-1e-5, "0.000"), (None, None)])
def test_the_redundancy_of_the_last_epoch_is_a_figure(make_model, value, shown):
    each = (1.0, 1.0)
    record = EpochRecord(0, 0, 1, 1.0, 1.0, -1.0, -1.0, each, (1, 1), 0.1, each, each, redundancy=value)
    fitted = FittedMFCVAE(make_model(), [record])
    chosen = figures(fitted, find(fitted, np.zeros((5, 6)), None, None, 0))
    assert chosen.get("dependence of the facets' latents (kernel alignment)") == shown


def test_a_nuisance_is_shown_and_shared(make_model, tmp_path):
    """All combinations share its draws, and a row for each dimension shows what it varies."""
    fitted = FittedMFCVAE(make_model(J=2, K=(4, 3), x_shape=(1, 9, 7), nuisance=2), [])
    x = fitted.sample(N)
    page = written(fitted, tmp_path, x)
    assert page.texts["h3"][-3:] == ["Facet 0", "Facet 1", "Nuisance"]
    alts = [a["alt"] for a in page.all("img", "strip") if a["alt"].startswith("Dimension")]
    assert sorted(alt.split(",")[0] for alt in alts) == ["Dimension 0", "Dimension 1"]
    assert "StandardNormal()" in "".join(itertools.chain(*page.texts.values()))
    explorer = Explorer(fitted, find(fitted, x, None, None, 0), drawing(x, own_scales=False), 0)
    plan = explorer.plan(1e6)
    z = explorer.latents(plan, 1.0)
    assert [z_j.shape[1:] for z_j in z] == [(4, 2), (3, 2), (1, 2)]
    assert not explorer.latents(plan, 0.0)[-1].any()
    page = written(FittedMFCVAE(make_model(J=2, x_shape=(6,)), []), tmp_path, np.zeros((5, 6)))
    assert page.texts["h3"][-2:] == ["Facet 0", "Facet 1"]


def test_plan_of_many_clusters(make_model):
    """Three facets of 200 clusters: a file that fits, and facets that stay equal."""
    fitted = FittedMFCVAE(make_model(J=3, K=200, x_shape=(6,)), [])
    x = fitted.sample(100)
    explorer = Explorer(fitted, find(fitted, x, None, None, 0), drawing(x, own_scales=False), 0)
    plan = explorer.plan(6e6)
    lengths = [len(kept) for kept in plan.kept]
    assert max(lengths) - min(lengths) <= 1
    assert plan.num_combinations * plan.tiles_per_combination <= MAX_TILES
    assert explorer.cost(plan) <= 6e6
    sizes = np.bincount(fitted.predict(x)[:, 1], minlength=200)
    assert sizes[list(plan.kept[1])].min() >= np.delete(sizes, plan.kept[1]).max()
    assert (plan.temperatures, plan.draws, plan.examples) in AMOUNTS


def test_missing_values_are_shown_as_such(make_model, tmp_path):
    for x_shape in ((1, 6, 6), (6,)):
        likelihood = likelihoods.Gaussian(missing=True)
        fitted = FittedMFCVAE(make_model(x_shape=x_shape, likelihood=likelihood), [])
        x = fitted.sample(N)
        x.reshape(N, -1)[:, 2] = np.nan
        page = written(fitted, tmp_path, x)
        draw = drawing(x, own_scales=False)
        assert any("issing" in note for note in draw.notes)
        if x_shape == (6,):
            assert all(path.count("M") == 5 for path in page.data["real"]["paths"])
        else:
            tiles = draw.tiles(x)
            assert (tiles[:, 0, 2] == (255 * MISSING_RGB).round()).all()
            assert (tiles[:, 1, 2, 0] == tiles[:, 1, 2, 1]).all()  # the others are grey


def test_profiles():
    """Heights are proportional; a gap in a line starts it anew; columns may have scales of their own."""
    x = np.tile(np.arange(5, dtype=np.float32)[:, None], (1, 3)) * [1, 10, 1000] - [0, 0, 2000]
    own = Profiles.of(x, own_scales=True)
    assert (own.tiles(x)[[0, 2, 4]] == [[0] * 3, [24] * 3, [48] * 3]).all()
    assert own.store(own.tiles(x[2:3]))["paths"][0].count("V24h") == 3  # bars of no height, at the median
    shared = Profiles.of(x, own_scales=False)
    assert (np.diff(shared.tiles(x)[:, 0]) == 0).all()
    line = Profiles.of(np.zeros((1, 500)), own_scales=False)
    values = np.zeros((1, 500))
    values[0, 30] = np.nan
    path = line.store(line.tiles(values))["paths"][0]
    assert path.count("M") == 2
    assert path.count("L") == 500 // 3 + 1 - 3


def test_large_pictures_are_averaged():
    x = np.zeros((1, 1, 256, 128), np.float32)
    x[..., :2, :2] = 1
    pictures = Pictures.of(x)
    tiles = pictures.tiles(x)
    assert tiles.shape == (1, 64, 32)
    assert tiles[0, 0, 0] == pytest.approx(255 * 4 / 16, abs=1)
    assert tiles.sum() == tiles[0, 0, 0]


def test_most_confident():
    rng = np.random.default_rng(0)
    groups, confidence = rng.integers(0, 4, 200), rng.integers(0, 5, 200) / 5
    groups[groups == 2] = 0
    found = most_confident(groups, confidence, 4, 7, seed=0)
    for k, members in enumerate(found):
        assert (groups[members] == k).all()
        assert sorted(confidence[members]) == sorted(confidence[groups == k])[::-1][:7][::-1]
    assert [len(members) for members in found] == [7, 7, 0, 7]
    assert found[0].tolist() != most_confident(groups, confidence, 4, 7, seed=1)[0].tolist()


def test_components_that_do_not_know_their_mean(make_model, tmp_path):
    class Shifted(torch.distributions.Normal):
        @property
        def mean(self):
            raise NotImplementedError

    class Prior(priors.FacetPrior):
        def weights(self):
            return torch.distributions.Categorical(torch.ones(self.clusters))

        def component(self, c):
            loc = c.unsqueeze(-1).expand(*c.shape, self.latent_dim).float()
            return torch.distributions.Independent(Shifted(loc, 1.0), 1)

    facets = (Facet(3, 2, Prior), Facet(2, 2))
    fitted = FittedMFCVAE(make_model(K=(3, 2), facets=facets, elbo="monte_carlo"), [])
    x = np.random.default_rng(0).uniform(size=(8, 6)).astype(np.float32)
    page = written(fitted, tmp_path, x)
    assert page.data["temperatures"] == [1.0]
    assert any("temperature is 1" in text for text in page.texts["p"])
    [slider] = [a for a in page.all("input") if a.get("type") == "range"]
    assert "disabled" in slider


def test_one_facet_and_one_datum(make_model, tmp_path):
    fitted = FittedMFCVAE(make_model(J=1, K=2, x_shape=(1, 4, 4)), [])
    x = np.zeros((1, 4, 4), np.float32)  # a missing channel is added
    page = written(fitted, tmp_path, x, [7])
    assert sum(page.data["counts"]) == 1
    assert page.data["shown"] == [[0], [0]]


def test_errors_leave_nothing_behind(grey, tmp_path, monkeypatch):
    fitted, x, labels = grey
    path = tmp_path / "report.html"
    path.write_text("before")
    for error, match, arguments in (
        (IsADirectoryError, "is a folder, expected a file", (tmp_path, x)),
        (FileNotFoundError, "does not exist; create it first", (tmp_path / "no" / "report.html", x)),
        (ValueError, "got data of shape", (path, x[..., :3])),
        (ValueError, "clusters: got .* rows and 5 of labels", (path, x, labels[:5])),
        (ValueError, "names: got", (path, x, labels, ["one"])),
        (ValueError, "without labels; give labels", (path, x, None, ["one"])),
        (TypeError, "expected integers", (path, x, labels + 0.5)),
        (ValueError, "labels, column 0: got none in row 0", (path, x, labels * np.nan)),
        (ValueError, "got NaN", (path, np.full_like(x, np.nan))),
    ):
        with pytest.raises(error, match=match):
            fitted.report(*arguments)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        fitted.report(path, x)
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.read_text() == "before"


def test_light_and_dark_have_contrast():
    """WCAG 2.2, AA: 4.5 for text, 3 for edges of controls; the two dark palettes are the same."""
    style = resources.files("pyro_mfcvae.report").joinpath("style.css").read_text("utf-8")
    blocks = re.findall(r"color-scheme: \w+;\n((?:\s*--[\w-]+: #\w{6};\n)+)", style)
    light, dark, without_script = (dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks)
    assert dark == without_script
    assert light.keys() == dark.keys()
    for colors in (light, dark):
        for paper in ("paper", "card", "wash"):
            for ink in ("ink", "soft", "accent", "c0", "c1", "c2", "c3", "c4", "c5"):
                assert _contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)
            assert _contrast(colors["edge"], colors[paper]) >= 3, paper
        assert _contrast(colors["on-accent"], colors["accent"]) >= 4.5


def _contrast(a, b):
    def luminance(color):
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_stage_is_in_the_schedule(make_model, make_config, tmp_path):
    config = make_config()
    stages = [dataclasses.replace(stage, freeze=("past facets",)) for stage in config.stages]
    fitted = FittedMFCVAE(make_model(schedule=Schedule(tuple(stages))), [])
    page = written(fitted, tmp_path, fitted.sample(20))
    assert page.texts["td"].count("past facets") == len(stages) == 2
    assert "freeze" in page.texts["th"]


def test_classes_have_names(grey, tmp_path):
    fitted, x, labels = grey
    kinds = ["ant", "bee", "cat", "dog", "eel"]
    numbered = written(fitted, tmp_path, x, labels, ["kind", "parity"])
    for given, names in (
        (labels, {"kind": kinds, "parity": None}),
        (pd.DataFrame({"kind": [kinds[k] for k in labels[:, 0]], "parity": labels[:, 1]}), None),
    ):
        page = written(fitted, tmp_path, x, given, names)
        expected = [
            re.sub(r"kind (\d)", lambda match: f"kind {kinds[int(match[1])]}", name)
            for name in numbered.data["realNames"]
        ]
        assert page.data["realNames"] == expected
        assert "mostly kind " in str(page.data)
        assert not re.search(r"kind \d", str(page.data))
