"""Learning-rate schedules of ``pyro.optim``."""

import pyro
import pytest
import torch
from pyro.infer import SVI


@pytest.mark.parametrize("named", [True, False])
def test_every_parameter_follows_the_schedule(model, x, named):
    options = {"lr": 0.01}
    if named:
        pyro.module("mfcvae", model)
        options = lambda name: {"lr": 0.02 if ".encoder." in name else 0.01}  # noqa: E731
    schedule = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": options, "gamma": 0.5})
    svi = SVI(model.model, model.guide, schedule, model.elbo())
    svi.step(x)
    for _ in range(2):
        schedule.step()
        svi.step(x)
    assert len(schedule.optim_objs) == len(list(model.parameters()))
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, scheduler in schedule.optim_objs.items():
        start = 0.02 if named and names[parameter].startswith("encoder.") else 0.01
        assert scheduler.get_last_lr() == pytest.approx([start / 4])


def test_a_plateau(model, x):
    schedule = pyro.optim.ReduceLROnPlateau(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "patience": 0}
    )
    svi = SVI(model.model, model.guide, schedule, model.elbo())
    svi.step(x)
    for _ in range(2):
        schedule.step(1.0)
    for scheduler in schedule.optim_objs.values():
        assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
