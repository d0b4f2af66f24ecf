"""Optimisers that are given the loss, and parameters by their names."""

import copy

import torch
from pyro import poutine
from pyro.optim.multi import MixedMultiOptimizer, TorchMultiOptimizer


def test_parts_of_the_model_train_in_their_own_ways(model, x):
    before = copy.deepcopy(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    parts = {group: [name for name in names if name.startswith(group)] for group in ("priors.", "encoder.")}
    optimizer = MixedMultiOptimizer(
        [
            (parts["priors."], TorchMultiOptimizer(torch.optim.SGD, {"lr": 0.0})),
            (parts["encoder."], TorchMultiOptimizer(torch.optim.Adam, {"lr": 0.01})),
        ]
    )
    with poutine.trace(param_only=True) as capture:
        loss = model.elbo().differentiable_loss(model.model, model.guide, x)
    parameters = {name: site["value"].unconstrained() for name, site in capture.trace.nodes.items()}
    assert list(parameters) == names
    optimizer.step(loss, parameters)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != name.startswith("encoder."), name
