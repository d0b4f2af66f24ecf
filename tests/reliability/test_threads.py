"""Threads that share a fitted model, with a training beside them, get what each would get alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyro
import pytest
import torch
from attacks import blobs, tiny
from forks import assert_same_fit

import pyro_mfcvae as mf

X = blobs(200)[0]
CONFIG = tiny(J=2, epochs=4)


def asks(fitted):
    """Questions with one answer each."""
    return {
        "score": lambda: np.array(fitted.score(X, seed=3)),
        "sample": lambda: fitted.sample(7, seed=5),
        "log_likelihood": lambda: fitted.log_likelihood(X[:40], 5, seed=1),
        "pareto_k": lambda: fitted.pareto_k(X[:10], 30, seed=2),
        "predict_proba": lambda: np.concatenate(fitted.predict_proba(X), 1),
        "transform": lambda: np.concatenate(fitted.transform(X), 1),
        "reconstruct": lambda: fitted.reconstruct(X),
        "predict": lambda: fitted.predict(X),
    }


def ask_together(seconds):
    """Ask from eight threads while another trains; how many answers there were, and which were others."""
    fitted = mf.fit(X, CONFIG, progress=False)
    questions = asks(fitted)
    expected = {name: ask() for name, ask in questions.items()}
    undisturbed = mf.fit(X, CONFIG, seed=1, progress=False)
    end, answers, wrong, trained = time.monotonic() + seconds, [], [], []

    def ask(number):
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            name = list(questions)[rng.integers(len(questions))]
            answer = questions[name]()
            answers.append(name)
            if not np.array_equal(answer, expected[name]):
                wrong.append(name)

    def train():
        while time.monotonic() < end or not trained:
            trained.append(mf.fit(X, CONFIG, seed=1, progress=False))

    with ThreadPoolExecutor(9) as pool:
        for done in [pool.submit(train), *(pool.submit(ask, number) for number in range(8))]:
            done.result()
    for other in trained:
        assert_same_fit(other, undisturbed)
    return answers, wrong, len(trained)


def numpy_stream():
    return np.random.get_state()[1].copy()  # noqa: NPY002  # the user's


def test_every_answer_is_that_of_one_thread():
    torch.manual_seed(8)
    state, numpy_state = torch.get_rng_state(), numpy_stream()
    validates = pyro.settings.get("validate_poutine"), torch.distributions.Distribution._validate_args
    answers, wrong, trained = ask_together(3)
    assert wrong == []
    assert len(answers) > 20
    assert trained
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(numpy_stream(), numpy_state)
    assert validates == (
        pyro.settings.get("validate_poutine"),
        torch.distributions.Distribution._validate_args,
    )
    assert len(pyro.get_param_store()) == 0
    assert threading.active_count() < 20


@pytest.mark.slow
def test_every_answer_of_a_minute():
    answers, wrong, trained = ask_together(60)
    print(f"{len(answers)} answers, {len(wrong)} wrong, {trained} trainings beside")
    assert wrong == []


def test_two_fits_at_once_are_two_fits():
    alone = [mf.fit(X, CONFIG, seed=seed, progress=False) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: mf.fit(X, CONFIG, seed=seed, progress=False), (0, 1)))
    for one, other in zip(alone, together, strict=True):
        assert_same_fit(other, one)
