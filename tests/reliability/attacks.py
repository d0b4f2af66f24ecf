"""Attacks that several test files share: files that are damaged or forged, and small runs to attack."""

import numpy as np
import torch

import pyro_mfcvae as mf
from pyro_mfcvae._utils.tensors import read_tensors, write_tensors
from pyro_mfcvae.networks import FullyConnectedLadder

KINDS = ("bit", "byte", "cut", "insert", "swap", "zero")
NUMBERS = (-1, 0, 1, 3, 10**12, 10**400, 1.5, float("nan"))
JUNK = (None, True, *NUMBERS, "", "x", "0", [], [3], [[]], {}, {"a": 1})


def blobs(n=300, seed=0):
    """Three groups in four dimensions, (n, 4), and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return np.array([[-6.0, 0, 0, 6], [6, 6, 0, 0], [0, -6, 6, -6]])[y] + rng.normal(size=(n, 4)), y


def tiny(J=1, width=8, likelihood=None, held_out=0.0, **stage):
    """A configuration that trains in a second."""
    options = {"epochs": 3, "warm_up_epochs": 1, "batch_size": 100, **stage}
    return mf.MFCVAEConfig(
        facets=tuple(mf.Facet(3, 2) for _ in range(J)),
        likelihood=likelihood or mf.likelihoods.Gaussian(standardize=True),
        network=FullyConnectedLadder((width,) * J),
        schedule=mf.Schedule(mf.Schedule.progressive(J, **options).stages, held_out=held_out),
    )


def damaged(whole, rng):
    """One of many ways in which the bytes of a file may be others; its kind, and the bytes."""
    data = bytearray(whole)
    kind = KINDS[rng.integers(len(KINDS))]
    # Half of the places are in the header, where most harm is done.
    at = int(rng.integers(min(len(data), 6000) if rng.random() < 0.5 else len(data)))
    size = int(rng.integers(1, 64))
    if kind == "bit":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "byte":
        data[at] = (data[at] + int(rng.integers(1, 256))) % 256
    elif kind == "cut":
        del data[at : None if rng.random() < 0.5 else at + size]
    elif kind == "insert":
        data[at:at] = rng.bytes(size)
    elif kind == "swap":
        other = int(rng.integers(len(data)))
        data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
    else:
        data[at : at + size] = bytes(len(data[at : at + size]))
    return kind, bytes(data)


def forged(path, kind, target, rng):
    """A file with a right digest and another's header or tensors: the place, or None if it is the same."""
    header, tensors = read_tensors(path, kind)
    if rng.random() < 0.25:
        name = sorted(tensors)[rng.integers(len(tensors))]
        changed = _another_tensor(tensors[name], rng)
        place = f"tensor {name}"
        if changed is None:
            del tensors[name]
        else:
            tensors[name] = changed
    else:
        place = _change(header, rng)
    write_tensors(target, kind, header, tensors)
    return place


def _another_tensor(tensor, rng):
    ways = (
        lambda: None,
        lambda: tensor.double(),
        lambda: tensor.reshape(-1)[:-1].clone(),
        lambda: torch.zeros(*tensor.shape, 1),
        lambda: torch.zeros(()),
        lambda: tensor.to(torch.int8),
    )
    return ways[rng.integers(len(ways))]()


def _change(header, rng):
    """Put junk in the place of one of all values of nested JSON, or take it away."""
    places = []

    def walk(node, path):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key, (*path, key)))
            walk(value, (*path, key))

    walk(header, ())
    # Every depth alike, since most values are in the history.
    depth = 1 + int(rng.integers(max(len(path) for _, _, path in places)))
    some = [place for place in places if len(place[2]) == depth]
    node, key, path = some[rng.integers(len(some))]
    junk = JUNK[rng.integers(len(JUNK))]
    if rng.random() < 0.1:
        del node[key]
        return f"{'.'.join(map(str, path))} lost"
    node[key] = junk
    return f"{'.'.join(map(str, path))} = {junk!r:.20}"
