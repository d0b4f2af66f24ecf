"""The plate of the data: its index, its size, and its scale."""

import pyro
import pytest
import torch
from pyro import poutine


@pytest.mark.parametrize("data_size", [None, 50])
def test_its_index_is_that_of_the_rows(model, x, data_size):
    for program in (model.model, model.guide):
        trace = poutine.trace(program).get_trace(x, data_size=data_size)
        index = trace.nodes["data"]["value"]
        assert torch.equal(index, torch.arange(5))
        assert index.device == x.device
        for name in model.latent_sites:
            assert trace.nodes[name]["scale"] == (data_size or 5) / 5


def test_it_samples_as_many_data_as_it_is_told(model):
    trace = poutine.trace(model.model).get_trace(data_size=7)
    assert torch.equal(trace.nodes["data"]["value"], torch.arange(7))
    assert len(trace.nodes["x"]["value"]) == 7


def test_what_pyro_subsamples_within_it(model, x):
    """A handler that looks at the plate takes rows by its index."""

    class Rows(poutine.messenger.Messenger):
        seen = None

        def _pyro_post_sample(self, msg):
            if msg["name"] == "z_0":
                self.seen = pyro.subsample(x, event_dim=1)

    with Rows() as rows:
        model.guide(x)
    assert torch.equal(rows.seen, x)
