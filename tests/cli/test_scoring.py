"""The verdict, which needs no labels, and progress where there is no terminal."""

import dataclasses
import io
import logging
import sys

import numpy as np
import pytest

from pyro_mfcvae import FittedMFCVAE
from pyro_mfcvae._utils import progress
from pyro_mfcvae.cli import output
from pyro_mfcvae.cli.datasets import Part
from pyro_mfcvae.cli.scoring import Scores, judge, verdict

GOOD = Scores(
    where="100 data",
    elbo=-10.0,
    clusters=(4, 6),
    alive=(4, 3),
    confidence=(0.9, 0.9),
    redundancy=np.array([[1.0, 0.02], [0.02, 1.0]]),
    evaluation=None,
)


def change(**fields):
    return dataclasses.replace(GOOD, **fields)


def test_a_run_that_separated_its_facets():
    (line,) = verdict(GOOD)
    assert line.endswith("this run separated its facets.")
    assert verdict(GOOD, usual_elbo=-10.0) == [line]
    one = change(clusters=(4,), alive=(4,), redundancy=np.ones((1, 1)))
    assert verdict(one) == [line]


@pytest.mark.parametrize(
    ("scores", "usual_elbo", "reason"),
    [
        (
            change(redundancy=np.array([[1.0, 0.35], [0.35, 1.0]])),
            None,
            "facets 0 and 1 repeat each other: adjusted mutual information 0.35, above 0.05",
        ),
        (change(alive=(1, 6)), None, "facet 0 has lost its clusters: 1 of 4 are alive"),
        (change(alive=(4, 2)), None, "facet 1 has lost its clusters: 2 of 6 are alive"),
        (GOOD, -9.5, "the ELBO is -10.0, below the -9.5 that runs usually reach"),
    ],
)
def test_a_run_that_did_not(scores, usual_elbo, reason):
    line, *reasons = verdict(scores, usual_elbo)
    assert "this run did not separate its facets. Try another seed" in line
    assert reasons == [f"  {reason}"]


def test_a_facet_of_one_cluster_repeats_nothing():
    scores = change(alive=(1, 1), redundancy=np.ones((2, 2)))
    assert not any("repeat" in line for line in verdict(scores))


def test_the_verdict_looks_at_no_label(make_model, blobs):
    fitted = FittedMFCVAE(make_model(K=4), [])
    x, y = blobs
    scores, blind = (judge(fitted, Part(x, labels)) for labels in (y, None))
    assert verdict(scores) == verdict(blind)
    clusters = fitted.predict(x)
    assert scores.alive == tuple(len(np.unique(c)) for c in clusters.T)
    twice = dataclasses.replace(scores, redundancy=np.ones((2, 2)), alive=(4, 4))
    assert any("repeat" in line for line in verdict(twice))


def test_progress_is_lines_where_there_is_no_terminal(capsys, monkeypatch):
    log = logging.getLogger("pyro_mfcvae.progress")
    times = iter([0.0, 1.0, 5.0, 9.0, 11.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with output.progress() as bar:
        for i in range(5):
            log.info("epoch %d", i)
    log.info("after")
    assert not bar
    assert capsys.readouterr().err == "epoch 0\nepoch 2\nepoch 4\n"
    with output.progress(quiet=True) as bar:
        log.info("quiet")
    assert not bar
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    for quiet in (False, True):
        with output.progress(quiet=quiet) as bar:
            logging.getLogger("pyro_mfcvae.progress").info("epoch")
        assert bar is not quiet
    assert sys.stderr.getvalue() == ""
