import dataclasses
import functools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from pyro_mfcvae.data import LabelledData, RenderedShapes, as_labelled, as_tensor, mnist

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
GREY = PICTURES[:, 0]
FLOATS = np.random.default_rng(1).normal(size=(6, 3))
Y = np.array([3, 1, 4, 1, 5, 9])


class Items(Dataset):
    """A map-style dataset of the given items."""

    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Frame:
    """As much of a DataFrame or Series as we ask for."""

    def __init__(self, values, dtype=None):
        self.values = np.asarray(values, dtype)

    def to_numpy(self):
        return self.values


class Endless(Dataset):
    """A map-style dataset without a length, as PyTorch permits."""

    def __getitem__(self, index):
        if index == 4:
            raise IndexError
        return torch.full((2,), float(index))


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def check(result, x, y=None):
    tensor, labels = result
    expected = torch.from_numpy(np.asarray(x, dtype=np.float32).copy())
    assert type(tensor) is torch.Tensor
    assert tensor.dtype == torch.float32
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous()
    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-7)
    if y is None:
        assert labels is None
    else:
        assert labels is not None
        assert labels.dtype == torch.int64
        assert labels.tolist() == np.asarray(y).tolist()


# arrays, tensors and pairs


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f8", "int8", "int64", "uint16", "uint64", "bool"]
)
def test_arrays_of_numbers_are_cast(dtype):
    x = (10 * FLOATS).astype("int64").clip(0).astype(dtype)
    check(as_labelled(x), x.astype("float32"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool])
def test_tensors_of_numbers_are_cast(dtype):
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).to(dtype)
    check(as_labelled(x), x.to(torch.float32).numpy())


def test_uint8_is_scaled_to_the_unit_interval():
    check(as_labelled(PICTURES), PICTURES / 255)
    check(as_labelled(torch.from_numpy(PICTURES)), PICTURES / 255)
    check(as_labelled(PICTURES[:, 0, 0]), PICTURES[:, 0, 0] / 255)


def test_awkward_memory_is_read():
    read_only = FLOATS.astype("float32")
    read_only.flags.writeable = False
    for x in (read_only, FLOATS[::-1], FLOATS.T, np.asfortranarray(FLOATS), PICTURES[:, ::-1]):
        check(as_labelled(x), x / 255 if x.dtype == np.uint8 else x)
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    check(as_labelled(parameter), np.ones((2, 2)))
    assert not as_tensor(parameter).requires_grad
    check(as_labelled(torch.eye(3).to_sparse()), np.eye(3))


def test_float32_is_not_copied_and_not_changed():
    array = FLOATS.astype("float32")
    assert as_tensor(array).data_ptr() == array.ctypes.data
    pictures = torch.from_numpy(PICTURES.copy())
    as_tensor(pictures)
    assert (pictures.numpy() == PICTURES).all()


def test_masked_arrays():
    check(as_labelled(np.ma.masked_array(FLOATS, mask=False)), FLOATS)
    with pytest.raises(ValueError, match=r"NaN or infinity .* 1 of 6 rows, the first is row 2"):
        as_tensor(np.ma.masked_array(FLOATS, mask=np.arange(18).reshape(6, 3) == 7))


@pytest.mark.parametrize(
    "pair",
    [
        (FLOATS, Y),
        [FLOATS, Y],
        (torch.from_numpy(FLOATS), torch.from_numpy(Y)),
        (FLOATS, torch.from_numpy(Y).to(torch.uint8)),
        (FLOATS, Y.tolist()),
        (Frame(FLOATS), Frame(Y)),
    ],
)
def test_pairs(pair):
    check(as_labelled(pair), FLOATS, Y)
    torch.testing.assert_close(as_tensor(pair), torch.from_numpy(FLOATS).float())


def test_pair_with_several_labels_and_none():
    labels = np.stack([Y, Y % 2], axis=1)
    check(as_labelled((FLOATS, labels)), FLOATS, labels)
    check(as_labelled((FLOATS, Y > 2)), FLOATS, [1, 0, 1, 0, 1, 1])
    check(as_labelled((FLOATS, None)), FLOATS)


@pytest.mark.parametrize(
    "y",
    [Y / 2, torch.rand(6), list("abcdef"), np.array(list("abcdef")), Frame(list("abcdef"), object)],
)
def test_labels_that_are_not_integers_are_ignored(y):
    check(as_labelled((FLOATS, y)), FLOATS)
    check(as_labelled((FLOATS, [[1], [2], [3], [4], [5], [6, 7]])), FLOATS)


def test_nested_lists_and_frames():
    check(as_labelled(FLOATS.tolist()), FLOATS)
    check(as_labelled([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    check(as_labelled(((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))), [[1, 2], [3, 4], [5, 6]])
    check(as_labelled(list(FLOATS)), FLOATS)
    check(as_labelled(list(torch.from_numpy(FLOATS))), FLOATS)
    check(as_labelled(Frame(FLOATS)), FLOATS)


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame, labels = pandas.DataFrame(FLOATS), pandas.Series(Y)
    check(as_labelled(frame), FLOATS)
    check(as_labelled((frame[::-1], labels[::-1])), FLOATS[::-1], Y[::-1])
    with pytest.raises(TypeError, match=r"^x: got column 'name' of String, .*get_dummies"):
        as_tensor(frame.assign(name="a"))


def test_labelled_data():
    data = LabelledData(torch.ones(2, 3), torch.tensor([[1], [2]]), ("kind",))
    check(as_labelled(data), np.ones((2, 3)), [[1], [2]])
    assert len(data) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.x = torch.zeros(2, 3)


# datasets


def test_tensor_dataset_and_subset():
    x, y = torch.from_numpy(FLOATS), torch.from_numpy(Y)
    check(as_labelled(TensorDataset(x)), FLOATS)
    check(as_labelled(TensorDataset(x, y)), FLOATS, Y)
    check(as_labelled(TensorDataset(x, x)), FLOATS)
    check(as_labelled(TensorDataset(x, torch.zeros(6, 2, 2, dtype=torch.int64))), FLOATS)
    check(as_labelled(Subset(TensorDataset(x, y), [4, 0])), FLOATS[[4, 0]], Y[[4, 0]])


def test_datasets_of_arrays_tensors_and_numbers():
    check(as_labelled(Items(FLOATS)), FLOATS)
    check(as_labelled(Items(zip(FLOATS, Y, strict=True))), FLOATS, Y)
    check(as_labelled(Items(zip(FLOATS, Y.tolist(), "abcdef", strict=True))), FLOATS, Y)
    check(as_labelled(Items(zip(torch.from_numpy(FLOATS), Y, strict=True))), FLOATS, Y)
    check(as_labelled(Items(FLOATS.tolist())), FLOATS)
    check(as_labelled(Items((row,) for row in FLOATS)), FLOATS)
    check(as_labelled(Items([row, label] for row, label in zip(FLOATS, Y, strict=True))), FLOATS, Y)
    check(as_labelled(list(zip(FLOATS, Y, strict=True))), FLOATS, Y)
    check(as_labelled(Endless()), np.arange(4)[:, None].repeat(2, 1))


def test_several_labels_an_item():
    labels = np.stack([Y, Y % 2], axis=1)
    check(as_labelled(Items(zip(FLOATS, labels, strict=True))), FLOATS, labels)
    check(as_labelled(Items(zip(FLOATS, labels.tolist(), strict=True))), FLOATS, labels)


@pytest.mark.parametrize(
    "labels",
    [
        list("abcdef"),
        [0.5] * 6,
        [1, 2, 3, 4, 5, "unknown"],
        [[1], [2], [3], [4], [5], [6, 7]],
        [{"boxes": 1}] * 6,
        [Image.fromarray(GREY[0])] * 6,
        [np.zeros((2, 2), dtype=int)] * 6,
    ],
)
def test_items_with_other_labels_keep_their_inputs(labels):
    check(as_labelled(Items(zip(FLOATS, labels, strict=True))), FLOATS)


def test_pictures_become_channels_first():
    colour = [Image.fromarray(picture.transpose(1, 2, 0)) for picture in PICTURES]
    check(as_labelled(Items(zip(colour, Y, strict=True))), PICTURES / 255, Y)
    check(as_labelled(Items(colour)), PICTURES / 255)
    check(as_labelled(colour), PICTURES / 255)
    grey = [Image.fromarray(picture) for picture in GREY]
    check(as_labelled(Items(zip(grey, Y, strict=True))), GREY[:, None] / 255, Y)
    check(as_labelled([(picture, 7) for picture in grey[:2]]), GREY[:2, None] / 255, [7, 7])


def test_pictures_of_other_modes():
    grey = Image.fromarray(GREY[0])
    check(as_labelled([grey.convert("LA")]), np.stack([GREY[0], np.full((5, 4), 255)])[None] / 255)
    check(as_labelled([grey.convert("F")]), GREY[0][None, None])
    check(as_labelled([grey.convert("1", dither=0)]), GREY[0][None, None] > 127)
    palette = Image.new("P", (4, 5), color=1)
    palette.putpalette([0, 0, 0, 255, 51, 0])
    colour = np.array([1.0, 0.2, 0.0])[None, :, None, None]
    check(as_labelled([palette]), np.broadcast_to(colour, (1, 3, 5, 4)))


def test_mixed_types_of_items_are_scaled_one_by_one():
    check(as_labelled(Items([PICTURES[0], PICTURES[1] / 255])), PICTURES[:2] / 255)


def test_iterable_dataset():
    check(as_labelled(Stream(list(zip(FLOATS, Y, strict=True)))), FLOATS, Y)
    check(as_labelled(Stream(list(FLOATS))), FLOATS)


def test_loader():
    dataset = TensorDataset(torch.from_numpy(FLOATS), torch.from_numpy(Y))
    check(as_labelled(DataLoader(dataset, batch_size=4)), FLOATS, Y)
    check(as_labelled(DataLoader(Items(torch.from_numpy(FLOATS)), batch_size=4)), FLOATS)
    check(as_labelled(DataLoader(Items(torch.from_numpy(PICTURES)), 4)), PICTURES / 255)
    labelled_by_name = Items(zip(FLOATS, "abcdef", strict=True))
    check(as_labelled(DataLoader(labelled_by_name, batch_size=4)), FLOATS)
    batches = Stream([(FLOATS[:4], Y[:4]), (FLOATS[4:], Y[4:])])
    check(as_labelled(DataLoader(batches, batch_size=None)), FLOATS, Y)


def test_shuffling_loader_keeps_pairs_and_the_random_stream():
    dataset = TensorDataset(torch.from_numpy(Y)[:, None].repeat(1, 2), torch.from_numpy(Y))
    before = torch.get_rng_state()
    x, y = as_labelled(DataLoader(dataset, batch_size=2, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert y is not None
    assert torch.equal(x[:, 0].long(), y)
    assert sorted(y.tolist()) == sorted(Y.tolist())


def test_rendered_shapes():
    shapes = RenderedShapes({"shape": "all", "floor_hue": [0, 1]}, image_size=16)
    check(as_labelled(shapes), shapes.images / 255, shapes.labels)
    check(as_labelled(DataLoader(shapes, batch_size=3)), shapes.images / 255, shapes.labels)
    assert isinstance(shapes, Dataset)


# what is refused


def test_one_dimension():
    with pytest.raises(ValueError, match=r"^x: got shape \(3,\).*reshape\(-1, 1\).*reshape\(1, -1"):
        as_tensor(np.ones(3))
    with pytest.raises(ValueError, match=r"^train: got shape \(\), expected \(N, D\)"):
        as_tensor(np.array(3.0), name="train")
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        as_tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"^dataset: got shape \(2,\)"):
        as_labelled((np.ones(2), np.ones(2, dtype=int)))
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        as_tensor(Items([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    "empty",
    [
        np.ones((0, 3)),
        np.ones((3, 0)),
        np.ones(0),
        [],
        (),
        Items([]),
        Stream([]),
        TensorDataset(torch.ones(0, 2)),
        DataLoader(Items([])),
        Frame(np.ones((0, 0))),
    ],
)
def test_empty(empty):
    with pytest.raises(ValueError, match=r"^x: got no data.*at least one datum"):
        as_tensor(empty)


def test_missing_entries_are_kept_where_they_are_allowed():
    x = FLOATS.copy()
    x[2, 1] = np.nan
    for given in (x, torch.from_numpy(x), np.ma.masked_invalid(x)):
        np.testing.assert_array_equal(as_tensor(given, allow_missing=True), x.astype("float32"))
    with pytest.raises(ValueError, match=r"^x: got NaN or infinity .*likelihood='mixed'.*missing=True"):
        as_tensor(x)
    x[4, 0] = np.inf
    with pytest.raises(ValueError, match=r"^x: got infinity .* in 1 of 6 rows, the first is row 4"):
        as_tensor(x, allow_missing=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite(bad):
    x = FLOATS.copy()
    x[2:5, 1] = bad
    x[2, 0] = bad
    with pytest.raises(
        ValueError, match=r"^x: got .* in 3 of 6 rows, the first is row 2, expected finite numbers only; remo"
    ):
        as_tensor(x)
    with pytest.raises(ValueError, match=r"^dataset: got NaN or infinity"):
        as_labelled(Items(x))


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (np.ones((2, 2), dtype=complex), "complex128"),
        (torch.ones(2, 2, dtype=torch.complex64), "torch.complex64"),
        (np.array([["a", "b"]]), "<U1"),
        ([["a", "b"], ["c", "d"]], "<U1"),
        (np.array([[None, 1.0]]), "object"),
        ([[None, 1.0]], "object"),
        (Frame([[1.0, "c"]], object), "object"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), r"datetime64\[D\]"),
        (Items([None, None]), "object"),
    ],
)
def test_not_real_numbers(data, dtype):
    with pytest.raises(TypeError, match=f"^x: got dtype {dtype}, expected real numbers"):
        as_tensor(data)


@pytest.mark.parametrize("data", [None, 3, {"x": FLOATS}, object(), iter([1, 2])])
def test_unknown_kinds(data):
    with pytest.raises(TypeError, match=r"^x: got a \w+, expected a NumPy array.*Dataset"):
        as_tensor(data)


def test_items_that_differ_in_shape():
    items = [torch.ones(1, 4, 4), torch.ones(1, 4, 4), torch.ones(1, 5, 4), torch.ones(2)]
    match = r"^x: got item 0 of shape \(1, 4, 4\) and item 2 of shape \(1, 5, 4\), .*resize"
    for data in (Items(items), Stream(items), items):
        with pytest.raises(ValueError, match=match):
            as_tensor(data)
    with pytest.raises(ValueError, match=r"item 0 of shape \(2,\) and item 1 of shape \(1,\)"):
        as_tensor([[1.0, 2.0], [3.0]])
    batches = DataLoader(Stream([torch.ones(4, 2), torch.ones(3, 5)]), batch_size=None)
    with pytest.raises(ValueError, match=r"batch 0 of shape \(4, 2\) and batch 1 of shape \(3, 5\)"):
        as_tensor(batches)
    with pytest.raises(ValueError, match="got a number, expected batches"):
        as_tensor(DataLoader(Stream([1.0, 2.0]), batch_size=None))
    with pytest.raises(ValueError, match=r"^x: got values that are no array .* expected numbers"):
        as_tensor(Items([[[1.0, 2.0], [3.0]]]))


def test_pairs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"unequal length, shapes \(6, 3\) and \(5,\)"):
        as_labelled((FLOATS, Y[:5]))
    with pytest.raises(ValueError, match=r"shape \(6, 3, 5, 4\), expected labels .* np.stack"):
        as_labelled((PICTURES, PICTURES))
    with pytest.raises(ValueError, match=r"shape \(\), expected labels"):
        as_labelled((FLOATS, "labels"))


def test_items_without_known_parts():
    with pytest.raises(TypeError, match=r"dict with keys \['image'\], expected x or \(x, y\)"):
        as_labelled(Items([{"image": FLOATS}]))
    with pytest.raises(ValueError, match="empty tuple"):
        as_labelled(Items([()]))


# torchvision


def save_mnist(root, counts=(7, 5), side=28, classes=10):
    """Write random digits in MNIST's format."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, N in zip(("train", "t10k"), counts, strict=True):
        x = generator.integers(0, 256, (N, side, side), dtype=np.uint8)
        y = generator.integers(0, classes, N, dtype=np.uint8)
        head = struct.pack(">IIII", 2051, N, side, side)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(head + x.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, N) + y.tobytes())
    return raw


def forbid_items(monkeypatch, cls):
    """Fail if a dataset of this class is read item by item, beyond the first one."""
    original = cls.__getitem__

    @functools.wraps(original)
    def first_only(dataset, index):
        assert index == 0, "read item by item"
        return original(dataset, index)

    monkeypatch.setattr(cls, "__getitem__", first_only)


def slowly(dataset):
    return as_labelled(Subset(dataset, range(len(dataset))))


def fake(cls, **attributes):
    """A torchvision dataset without its files."""
    dataset = cls.__new__(cls)
    dataset.transform = dataset.target_transform = dataset.transforms = None
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def torchvision_datasets():
    from torchvision import datasets

    colours_last = PICTURES.transpose(0, 2, 3, 1)
    grey, targets = torch.from_numpy(GREY.copy()), torch.from_numpy(Y)
    return {
        "MNIST": fake(datasets.MNIST, data=grey, targets=targets),
        "FashionMNIST": fake(datasets.FashionMNIST, data=grey, targets=targets),
        "CIFAR10": fake(datasets.CIFAR10, data=colours_last, targets=Y.tolist()),
        "SVHN": fake(datasets.SVHN, data=PICTURES, labels=Y),
        "STL10": fake(datasets.STL10, data=PICTURES, labels=None),
        "USPS": fake(datasets.USPS, data=GREY, targets=Y.tolist()),
    }


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CIFAR10", "SVHN", "STL10", "USPS"])
def test_torchvision_arrays_equal_the_items(name, monkeypatch):
    dataset = torchvision_datasets()[name]
    x, y = slowly(dataset)
    forbid_items(monkeypatch, type(dataset))
    fast_x, fast_y = as_labelled(dataset)
    assert torch.equal(fast_x, x)
    assert fast_x.is_contiguous()
    assert (fast_y is None and y is None) or torch.equal(fast_y, y)


def test_transforms_are_respected():
    dataset = torchvision_datasets()["MNIST"]
    dataset.transform = lambda image: np.asarray(image, dtype=np.float32) - 7
    check(as_labelled(dataset), GREY.astype("float32") - 7, Y)
    dataset.transform, dataset.target_transform = None, lambda y: y + 1
    check(as_labelled(dataset), GREY[:, None] / 255, Y + 1)


def test_items_of_a_subclass_are_respected():
    from torchvision.datasets import MNIST

    class Inverted(MNIST):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            x = torch.from_numpy(np.array(image))[None] / 255
            return x if index == 0 else 1 - x, label

    dataset = fake(Inverted, data=torch.from_numpy(GREY.copy()), targets=torch.from_numpy(Y))
    expected = 1 - GREY[:, None] / 255
    expected[0] = 1 - expected[0]
    check(as_labelled(dataset), expected, Y)


def test_labels_that_differ_from_the_stored_ones_are_respected():
    from torchvision.datasets import QMNIST

    targets = torch.from_numpy(Y)[:, None].repeat(1, 8)
    dataset = fake(QMNIST, data=torch.from_numpy(GREY.copy()), targets=targets, compat=True)
    check(as_labelled(dataset), GREY[:, None] / 255, Y)


def test_rendered_shapes_are_read_from_their_arrays(monkeypatch):
    forbid_items(monkeypatch, RenderedShapes)
    shapes = RenderedShapes({"shape": "all"}, image_size=16)
    check(as_labelled(shapes), shapes.images / 255, shapes.labels)


# MNIST


def test_mnist_files(tmp_path):
    save_mnist(tmp_path)
    for root in (tmp_path, str(tmp_path)):
        data = mnist(root)
        assert data.x.shape == (7, 1, 28, 28)
        assert data.x.dtype == torch.float32
        assert data.labels.shape == (7, 1)
        assert data.labels.dtype == torch.int64
        assert data.label_names == ("digit",)
        assert len(mnist(root, train=False)) == 5
    x, y = as_labelled(data)
    assert torch.equal(x, data.x)
    assert torch.equal(y, data.labels)


def test_mnist_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)no train-images.*download=True.*https://"):
        mnist(tmp_path / "nowhere")
    raw = save_mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no t10k-labels-idx1-ubyte in .*10,008 bytes"):
        mnist(tmp_path)


def test_mnist_damaged(tmp_path):
    file = save_mnist(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read .*expected .*47,040,016 bytes"):
        mnist(tmp_path)


@pytest.fixture(scope="module")
def mnist_root():
    root = os.environ.get("PYRO_MFCVAE_DATA")
    if root is None:
        pytest.skip("PYRO_MFCVAE_DATA, the folder that holds MNIST/raw, is not set")
    return Path(root)


def test_real_mnist_is_the_same_by_every_way(mnist_root):
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    plain = MNIST(mnist_root, train=False)
    x, y = as_labelled(plain)
    assert x.shape == (10_000, 1, 28, 28)
    assert x.min() == 0
    assert x.max() == 1
    some = range(300)
    transformed = MNIST(mnist_root, train=False, transform=ToTensor())
    for dataset in (Subset(plain, some), Subset(transformed, some)):
        subset_x, subset_y = as_labelled(dataset)
        assert torch.equal(subset_x, x[:300])
        assert torch.equal(subset_y, y[:300])
    data = mnist(mnist_root, train=False)
    assert torch.equal(data.x, x)
    assert torch.equal(data.labels[:, 0], y)
    assert y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_real_mnist_training_set(mnist_root):
    data = mnist(mnist_root)
    assert data.x.shape == (60_000, 1, 28, 28)
    assert data.labels.unique().tolist() == list(range(10))


def test_file_sizes_in_the_message_are_those_of_mnist(mnist_root):
    from pyro_mfcvae.datasets.mnist import FILE_SIZES

    for file, size in FILE_SIZES.items():
        assert (mnist_root / "MNIST" / "raw" / file).stat().st_size == size
