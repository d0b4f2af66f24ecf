"""On a GPU, a step that reads the value of a tensor waits for all that was asked of the device before.

No GPU is needed to see it: the operations that read are the same on every device.
"""

import contextlib
import dataclasses
import traceback
from pathlib import Path

import pyro
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import transforms
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_mfcvae import (
    MFCVAE,
    Facet,
    MFCVAEConfig,
    Schedule,
    Stage,
    likelihoods,
    networks,
    priors,
)
from pyro_mfcvae.model import objectives
from pyro_mfcvae.model.loss import ClosedFormLoss, ProgramLoss
from pyro_mfcvae.model.objectives import OBJECTIVES
from pyro_mfcvae.training import Trainer, loop, step
from pyro_mfcvae.training.optimizers import OPTIMIZERS, make_optimizer

READS = {
    "_linalg_check_errors",  # of linalg.cholesky and the like; their *_ex do not check
    "_local_scalar_dense",  # item(), float(), bool() and what compares in Python
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
METHODS = ("tolist", "numpy", "__array__")  # read the memory of a tensor without an operation
MAKERS = ("tensor", "from_numpy")  # copy to the device, and wait for it, what they make on the CPU


class HostReads(TorchDispatchMode):
    """Notes where the values of tensors are read, and where a step makes tensors from values.

    It leaves out what is run within ``allowed``.
    """

    def __init__(self):
        super().__init__()
        self.seen = []
        self.is_allowed = False
        self._patch = pytest.MonkeyPatch()

    def __enter__(self):
        for name in METHODS:
            method = getattr(torch.Tensor, name)
            self._patch.setattr(torch.Tensor, name, self._noting(name, method))
        for name in MAKERS:
            self._patch.setattr(torch, name, self._noting(name, getattr(torch, name), in_step=True))
        return super().__enter__()

    def __exit__(self, *error):
        self._patch.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in READS or (name in ("index", "index_put", "index_put_") and _has_mask(args[1])):
            self._note(name)
        return function(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def allowed(self):
        before, self.is_allowed = self.is_allowed, True
        yield
        self.is_allowed = before

    def allowing(self, function):
        def allowed(*args, **kwargs):
            with self.allowed():
                return function(*args, **kwargs)

        return allowed

    def _noting(self, name, method, in_step=False):
        def noting(*args, **kwargs):
            if not in_step or any(f.filename == step.__file__ for f in traceback.extract_stack()):
                self._note(name)
            with self.allowed():
                return method(*args, **kwargs)

        return noting

    def _note(self, name):
        if not self.is_allowed:
            frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename]
            where = [f for f in frames if f.filename != __file__][-1]
            self.seen.append(f"{name} in {Path(where.filename).name}, {where.name}")


def _has_mask(indices):
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: 1 if x.any() else 0,
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.allclose(x, x),
        lambda x: x.index_put_((x > 0,), x[:1]),
        lambda x: torch.arange(3).repeat_interleave(torch.arange(3)),
        lambda x: torch.linalg.cholesky(torch.eye(3)),
        lambda x: torch.linalg.inv(torch.eye(3)),
    ],
)
def test_every_read_is_seen(read):
    with HostReads() as reads:
        read(torch.rand(3))
        count = len(reads.seen)
        with reads.allowed():
            read(torch.rand(3))
    assert count == len(reads.seen) > 0
    assert hasattr(torch.Tensor.tolist, "__objclass__")  # the method is back


def test_what_reads_nothing_is_not_counted():
    with HostReads() as reads:
        x = torch.rand(3, requires_grad=True)
        torch.linalg.cholesky_ex(torch.eye(3) * x)[0].sum().backward()
        x.detach()[torch.tensor([0, 1])].clamp_min(0.5).masked_fill_(x[:2] > 0, 0.0)
    assert reads.seen == []


NETWORK_OPTIONS = {"batch_norm": True, "dropout": 0.1}
FACETS = tuple(Facet(3, 2) for _ in range(2))
STAGES = (Stage((0, 1), 3, 16, warm_up_epochs=1, fade_in_steps=4),)


def _config(**fields):
    defaults = {
        "facets": FACETS,
        "network": networks.FullyConnectedLadder(widths=(8, 8), **NETWORK_OPTIONS),
        "schedule": Schedule(STAGES),
    }
    return MFCVAEConfig(**defaults | fields)


def _network(name):
    factory = networks.FACTORIES[name]
    options = {"channels": 2} if name.startswith("convolutional") else {"widths": (8, 8)}
    return factory(**options, **NETWORK_OPTIONS)


def _prior(name):
    return (Facet(1 if name == "standard_normal" else 3, 2, name),) * 2


def _optimizer(name):
    return Schedule(tuple(dataclasses.replace(stage, optimizer=name) for stage in STAGES))


CONFIGS = {
    **{f"objective {o}": _config(elbo=o, num_kl_samples=2) for o in OBJECTIVES},
    **{f"prior {p}": _config(facets=_prior(p)) for p in priors.available() if p != "bayesian_gaussian"},
    **{f"likelihood {n}": _config(likelihood=n) for n in likelihoods.available()},
    **{f"network {n}": _config(network=_network(n)) for n in networks.available()},
    **{f"optimizer {n}": _config(schedule=_optimizer(n)) for n in OPTIMIZERS},
    **{
        f"weights {w}": _config(facets=(Facet(3, 2, priors.DiagonalGaussian(weights=w)),) * 2)
        for w in ("learned", "uniform")
    },
    "redundancy": _config(schedule=Schedule((dataclasses.replace(STAGES[0], redundancy_weight=5.0),))),
    "missing": _config(likelihood=likelihoods.Bernoulli(missing=True)),
    "learned sigma": _config(likelihood=likelihoods.Gaussian(learn="decoder", standardize=True)),
    "large": _config(facets=(Facet(30, 20, priors.FullGaussian()), Facet(30, 20))),
}


def _data(config, n=32):
    shape = (1, 4, 4) if "onvolutional" in type(config.network).__name__ else (4,)
    x = torch.rand(n, *shape)
    if config.likelihood == likelihoods.Bernoulli(missing=True):
        x[0, 0] = torch.nan
    return x.round() if type(config.likelihood).__name__ in COUNTS else x


COUNTS = ("Poisson", "NegativeBinomial", "Categorical", "DiscretizedLogistic")


def _reads_in_training(config):
    """Where train() reads values, other than at the end of an epoch or of a warm-up."""
    x = _data(config)
    model = MFCVAE(config, x.shape[1:])
    model.likelihood.calibrate(x)
    trainer = Trainer(model, x, seed=0)
    with HostReads() as reads, pytest.MonkeyPatch.context() as patch:
        reading = (
            (trainer.monitor, "record"),
            (trainer.monitor, "set_reference"),
            (loop, "initialize_mixtures"),
        )
        for owner, name in reading:
            patch.setattr(owner, name, reads.allowing(getattr(owner, name)))
        trainer.run(progress=False)
    assert trainer.steps == 6
    return reads.seen


# What PyTorch's own distributions do when they are made: they check a Cholesky factor, and halve a number.
OF_TORCH = {
    "prior low_rank_gaussian": {"_linalg_check_errors in distribution.py, __call__"},
    "prior student_t": {"tensor in distribution.py, __call__"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_step_reads_a_value(name):
    """In warm-up, fade-in and after."""
    assert set(_reads_in_training(CONFIGS[name])) == OF_TORCH.get(name, set())


def _latent(name):
    return priors.DiagonalGaussian(weights=name)


# They run under Pyro's handlers.
PROGRAMS = {
    "two particles": _config(num_particles=2),
    **{
        name: _config(facets=(Facet(3, 3, prior),) * 2)
        for name, prior in {
            "stick-breaking weights": _latent("stick_breaking"),
            "logistic-normal weights": _latent("logistic_normal"),
            "low rank, latent weights": priors.LowRankGaussian(weights="stick_breaking"),
            "full, latent weights": priors.FullGaussian(weights="logistic_normal"),
            "Bayesian": priors.BayesianGaussian(),
            "Bayesian, multivariate normal": priors.BayesianGaussian(guide="multivariate_normal"),
            "Bayesian, full": priors.BayesianGaussian(covariance="full"),
        }.items()
    },
}
# Pyro asks whether a mask is all true, once for every cost, and whether the loss is NaN; a plate asks for
# the default device.
OF_PYRO = {
    "_local_scalar_dense in util.py, compute_expectation",
    "_local_scalar_dense in util.py, warn_if_nan",
    "tensor in subsample_messenger.py, __init__",
}


def _indexed(size, diag, device):
    """Rows and columns of the lower triangle, row by row."""
    rows, columns = torch.tril_indices(size, size, diag, device=device)
    return (..., rows, columns)


def _matrix_to_vector(matrix, diag=0):
    return matrix[_indexed(matrix.shape[-1], diag, matrix.device)]


def _vector_to_matrix(vector, diag=0):
    assert diag == -1
    size = round((0.25 + 2 * vector.shape[-1]) ** 0.5 + 0.5)
    matrix = vector.new_zeros(*vector.shape[:-1], size, size)
    matrix[_indexed(size, diag, vector.device)] = vector
    return matrix


@pytest.fixture
def triangles_by_number(monkeypatch):
    """PyTorch's correlation matrices take their triangles by masks, whose true values it has to count."""
    monkeypatch.setattr(transforms, "tril_matrix_to_vec", _matrix_to_vector)
    monkeypatch.setattr(transforms, "vec_to_tril_matrix", _vector_to_matrix)


def test_triangles_by_number_are_those_by_masks():
    matrix = torch.rand(2, 4, 4)
    for diag in (-1, -2):
        expected = transforms.tril_matrix_to_vec(matrix, diag=diag)
        assert torch.equal(_matrix_to_vector(matrix, diag), expected)
    vector = torch.rand(2, 6)
    assert torch.equal(_vector_to_matrix(vector, -1), transforms.vec_to_tril_matrix(vector, diag=-1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_under_pyro_read_what_pyro_does(name, triangles_by_number):
    """And what PyTorch's distributions do."""
    of_torch = OF_TORCH["prior low_rank_gaussian"] if name.startswith("low rank") else set()
    assert set(_reads_in_training(PROGRAMS[name])) == OF_PYRO | of_torch


def test_full_covariances_read_by_pytorchs_masks():
    """If this fails, PyTorch has mended them, and ``triangles_by_number`` can go."""
    seen = set(_reads_in_training(PROGRAMS["Bayesian, full"])) - OF_PYRO
    assert {place.split()[0] for place in seen} == {"index", "index_put", "index_put_"}


# --- devices ------------------------------------------------------------------------------------


def _fake_cuda(module):
    """Put the parameters and buffers of a module on a GPU that need not exist; they have no values."""
    for child in module.modules():
        for name, p in child._parameters.items():
            if p is not None:
                child._parameters[name] = nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device="cuda"))
        for name, b in child._buffers.items():
            if b is not None:
                child._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device="cuda")


class _Sobol:
    """Draws on the CPU like the real one, which needs memory for it."""

    def __init__(self, dimension, **options):
        self.dimension = dimension

    def draw(self, number, dtype):
        return torch.empty(number, self.dimension, dtype=dtype)


def _weighted(model, config):
    weight = config.stages[0].redundancy_weight
    return dataclasses.replace(model.full_weights, redundancy=weight)


def _assert_a_step_on_cuda(config, make_loss):
    """Loss, optimiser and what is looked at, on a GPU that need not exist.

    An operation between devices is an error, as is reading a value of a tensor that has none. The backward
    pass cannot run without a GPU; its operations are derived from these.
    """
    x = _data(config)
    with pyro.validation_enabled(False):
        model = MFCVAE(config, x.shape[1:])
        model.likelihood.calibrate(x)
        with FakeTensorMode():
            _fake_cuda(model)
            batch = torch.empty(x.shape, device="cuda")
            loss = make_loss(model)(batch, _weighted(model, config))
            optimizer = make_optimizer(config.stages[0].optimizer, model.parameters(), 1e-3)
            for parameter in model.parameters():
                parameter.grad = torch.empty_like(parameter)
            for _ in range(2):
                optimizer.step()
            results = [loss, *model.responsibilities(model.encode(batch))]
            terms = model.elbo_terms(batch)
            results += [terms.elbo, *terms.responsibilities]
    for result in results:
        assert result.device.type == "cuda"


@pytest.mark.parametrize("name", CONFIGS)
def test_all_of_a_step_is_on_the_device_of_the_data(name, monkeypatch):
    monkeypatch.setattr(objectives, "SobolEngine", _Sobol)
    _assert_a_step_on_cuda(CONFIGS[name], ClosedFormLoss)


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_of_a_program_is_on_the_device_of_the_data(name, monkeypatch, triangles_by_number):
    """Pyro's own questions, whether a mask is all true and a loss is NaN, are answered for it."""
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: True)
    with pytest.warns(UserWarning, match="Encountered NaN"):
        _assert_a_step_on_cuda(PROGRAMS[name], ProgramLoss)


def test_a_tensor_on_another_device_is_seen():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="at least two devices"):
        torch.empty(3, device="cuda") + torch.arange(3)
