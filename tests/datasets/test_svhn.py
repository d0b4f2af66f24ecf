"""SVHN, from small files in its format."""

import numpy as np
import pytest
import scipy.io
import torch

from pyro_mfcvae.data import as_labelled, svhn
from pyro_mfcvae.datasets.svhn import FILE_SIZES, URL

DIGITS = np.array([[10], [1], [9], [10], [4], [2], [5]], dtype=np.uint8)
PICTURES = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 7), dtype=np.uint8)


def save(folder, name="train_32x32.mat", **changes):
    arrays = {"X": PICTURES, "y": DIGITS, **changes}
    kept = {key: array for key, array in arrays.items() if array is not None}
    scipy.io.savemat(folder / name, kept, do_compression=True)
    return folder / name


def test_files(tmp_path):
    save(tmp_path)
    save(tmp_path, "test_32x32.mat", X=PICTURES[..., :2], y=DIGITS[:2])
    for root in (tmp_path, str(tmp_path)):
        data = svhn(root)
        assert data.x.shape == (7, 3, 32, 32)
        assert data.x.dtype == torch.float32
        assert data.x.is_contiguous()
        assert data.labels.tolist() == [[0], [1], [9], [0], [4], [2], [5]]
        assert data.labels.dtype == torch.int64
        assert data.label_names == ("digit",)
        assert len(svhn(root, train=False)) == 2
    for n, c, h, w in ((0, 0, 0, 0), (6, 2, 31, 0), (3, 1, 4, 17)):
        assert data.x[n, c, h, w].item() == pytest.approx(PICTURES[h, w, c, n] / 255)
    x, y = as_labelled(data)
    assert torch.equal(x, data.x)
    assert torch.equal(y, data.labels)


def test_it_is_what_torchvision_reads(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    save(tmp_path)
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    x, y = as_labelled(SVHN(tmp_path))
    data = svhn(tmp_path)
    assert torch.equal(data.x, x)
    assert torch.equal(data.labels[:, 0], y)
    assert {SVHN.split_list[split][0] for split in ("train", "test")} == {URL + name for name in FILE_SIZES}


def test_one_image(tmp_path):
    save(tmp_path, X=PICTURES[..., :1], y=DIGITS[:1])
    assert svhn(tmp_path).x.shape == (1, 3, 32, 32)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train_32x32.mat in .*182,040,794.*http://.*/train_32"):
        svhn(tmp_path / "nowhere")
    save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^root: no test_32x32.mat in .*64,275,384 bytes"):
        svhn(tmp_path, train=False)


def test_damaged(tmp_path):
    whole = save(tmp_path).read_bytes()
    for part in (b"", b"<html>Not found</html>", whole[:100], whole[:2000], whole[:-9]):
        (tmp_path / "train_32x32.mat").write_bytes(part)
        with pytest.raises(ValueError, match=r"^root: .*train_32x32.mat cannot be read .*182,040,794"):
            svhn(tmp_path)
    flipped = bytearray(whole)
    flipped[5000] ^= 255
    (tmp_path / "train_32x32.mat").write_bytes(flipped)
    with pytest.raises(ValueError, match="cannot be read"):
        svhn(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "it has no array X"),
        ({"X": None, "y": None, "z": DIGITS}, "it has no array X and no array y"),
        ({"X": PICTURES[..., 0]}, r"X is uint8 of shape \(32, 32, 3\), not uint8 \(32, 32, 3, N\)"),
        ({"X": PICTURES / 255}, "X is float64 of shape"),
        ({"y": DIGITS[:5]}, r"y has shape \(5, 1\), not numbers from 1 to 10 of shape \(7, 1\)"),
        ({"y": DIGITS + 1}, "not numbers from 1 to 10"),
        ({"y": DIGITS - 1}, "not numbers from 1 to 10"),
    ],
)
def test_other_content_is_refused(tmp_path, changes, message):
    save(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        svhn(tmp_path)
