"""The same numbers in every container: what is trained and predicted is what an array gives."""

import dataclasses
import pickle
import subprocess
import sys

import anndata
import datasets
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import zarr
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyro_mfcvae import Schedule, fit, presets
from pyro_mfcvae.data import Column, Schema, annotate, as_labelled, as_tensor, from_anndata, from_dicts
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.data.memmap import Stored
from pyro_mfcvae.data.opening import RowWise, opened

N, D = 700, 6
LABELS = np.arange(N) % 3


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)) * (rng.random((N, D)) < 0.5)


def config():
    schedule = Schedule.progressive(1, epochs=1)
    return presets.tabular(clusters=(2,), latent_dims=2, schedule=schedule)


@pytest.fixture(scope="module")
def fitted(x):
    return fit(x, config(), progress=False)


def torch_sparse(layout):
    return lambda x, folder: torch.from_numpy(x).to_sparse(layout=layout)


def hdf5(x, folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(64, D))
    return h5py.File(folder / "x.h5")["x"]


def zarr_array(x, folder):
    array = zarr.create_array(store=str(folder / "x.zarr"), shape=x.shape, dtype=x.dtype, chunks=(64, D))
    array[:] = x
    return array


def h5ad(x, folder):
    path = folder / "x.h5ad"
    anndata.AnnData(x).write_h5ad(path)
    return path


def h5ad_backed(x, folder):
    anndata.AnnData(scipy.sparse.csr_matrix(x)).write_h5ad(folder / "sparse.h5ad")
    return anndata.read_h5ad(folder / "sparse.h5ad", backed="r")


def hugging_face(x, folder):
    rows = datasets.Dataset.from_dict({"row": list(x), "label": LABELS})
    return from_dicts(rows, "row", label="label")


class Dicts(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"row": self.x[index], "label": int(LABELS[index])}


class DictStream(IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return ({"row": row} for row in self.x)


BY_ROWS = {
    **{f"SciPy {kind}": lambda x, _, kind=kind: getattr(scipy.sparse, f"{kind}_array")(x)
       for kind in ("csr", "csc", "coo", "bsr", "lil", "dok")},
    "SciPy matrix": lambda x, _: scipy.sparse.csr_matrix(x),
    "torch coo": torch_sparse(torch.sparse_coo),
    "torch csr": torch_sparse(torch.sparse_csr),
    "torch csc": torch_sparse(torch.sparse_csc),
    "AnnData, sparse": lambda x, _: anndata.AnnData(scipy.sparse.csr_matrix(x)),
    "AnnData, backed": h5ad_backed,
    "path .h5ad": h5ad,
    "HDF5": hdf5,
    "Zarr": zarr_array,
    "pair": lambda x, _: (scipy.sparse.csr_array(x), LABELS),
}  # fmt: skip
OTHERS = {
    "AnnData": lambda x, _: anndata.AnnData(x),
    "AnnData, layer": lambda x, _: from_anndata(anndata.AnnData(0 * x, layers={"counts": x}), "counts"),
    "path .csv": lambda x, folder: pd.DataFrame(x).to_csv(folder / "x.csv", index=False) or folder / "x.csv",
    "Hugging Face": hugging_face,
    "dicts": lambda x, _: from_dicts(Dicts(x), "row"),
    "list of dicts": lambda x, _: from_dicts([{"row": row} for row in x], "row"),
    "stream of dicts": lambda x, _: from_dicts(DictStream(x), "row"),
    "loader of dicts": lambda x, _: from_dicts(DataLoader(Dicts(x), 64), "row", label="label"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("make", (BY_ROWS | OTHERS).values(), ids=BY_ROWS | OTHERS)
def test_every_container_is_its_numbers(make, x, fitted, tmp_path):
    data = make(x, tmp_path)
    assert torch.equal(as_tensor(data, dtype=torch.float64), torch.from_numpy(x))
    same = fit(data, config(), progress=False)
    for ours, expected in zip(same.predict_proba(x), fitted.predict_proba(x), strict=True):
        assert np.array_equal(ours, expected)
    assert np.array_equal(fitted.transform(data)[0], fitted.transform(x)[0])
    assert fitted.score(data) == fitted.score(x)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("make", BY_ROWS.values(), ids=BY_ROWS)
def test_rows_are_read_where_they_are(make, x, fitted, tmp_path):
    """As those of a memory-mapped array are, in the same order."""
    data = make(x, tmp_path)
    source = as_source(data, in_memory=False)
    assert isinstance(source, Stored)
    np.save(tmp_path / "x.npy", x)
    mapped = as_source(tmp_path / "x.npy", in_memory=False)
    batches = [s.batches(50, 14, torch.Generator().manual_seed(0)) for s in (source, mapped)]
    assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))
    assert torch.equal(source.hold_out(0.3, 0)[1], mapped.hold_out(0.3, 0)[1])
    with pytest.raises(ValueError, match=r"expected \(N, 6\)"):
        fitted.predict(scipy.sparse.csr_array(x[:, :4]))


@pytest.mark.parametrize("make", [hdf5, zarr_array, BY_ROWS["SciPy csr"]])
def test_other_processes_read_the_same_rows(make, x, tmp_path):
    rows = opened(make(x, tmp_path), "x").reshape(N, 2, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(rows)), x.reshape(N, 2, 3))


def test_pictures_of_bytes(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = pictures
        assert torch.equal(as_tensor(file["x"]), as_tensor(pictures))
        shape = presets.for_data((1, 4, 4), True, clusters=(2,), latent_dims=2)
        assert shape is not None
        source = as_source(file["x"], in_memory=False)
        assert torch.equal(source.calibration_sample().sum(), as_tensor(pictures).sum())


def test_labels_come_along(x):
    rows = from_dicts(Dicts(x), "row", label="label")
    assert torch.equal(as_labelled(rows)[1], torch.from_numpy(LABELS))
    assert torch.equal(as_labelled((scipy.sparse.csr_array(x), LABELS))[1], torch.from_numpy(LABELS))


def test_pictures_of_hugging_face():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4)).astype(np.uint8)
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [Image.fromarray(each) for each in pictures]}, features)
    assert torch.equal(as_tensor(from_dicts(rows, "image")), as_tensor(pictures[:, None]))


def test_an_anndata_is_annotated(x, fitted):
    cells = anndata.AnnData(np.zeros((N, D)), layers={"counts": scipy.sparse.csr_matrix(x)})
    annotate(cells, fitted, layer="counts")
    assert np.array_equal(cells.obs["facet_0"].astype(int), fitted.predict(x)[:, 0])
    assert isinstance(cells.obs["facet_0"].dtype, pd.CategoricalDtype)
    assert np.array_equal(cells.obsm["X_facet_0"], fitted.transform(x)[0])


@pytest.fixture(scope="module")
def named(x):
    """Cells with named variables, and a model that knows the names."""
    cells = anndata.AnnData(scipy.sparse.csr_matrix(x), var=pd.DataFrame(index=list("abcdef")))
    cells.layers["same"] = cells.X.copy()
    schema = Schema(tuple(Column(name, "real") for name in cells.var_names))
    return cells, fit(cells, dataclasses.replace(config(), schema=schema), progress=False)


def test_variables_have_names(x, fitted, named, tmp_path):
    cells, by_name = named
    cells.write_h5ad(tmp_path / "x.h5ad")
    expected = fitted.predict(x)
    for data in (cells, x, tmp_path / "x.h5ad", anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")):
        assert np.array_equal(by_name.predict(data), expected)
    assert isinstance(opened(cells, "x", schema=by_name.model.schema), RowWise)  # sparse as before
    assert list(by_name.sample(2, as_frame=True)) == list("abcdef")


def test_other_variables_are_refused(named, tmp_path):
    cells, by_name = named
    turned, fewer = cells[:, ::-1].copy(), cells[:, :5].copy()
    turned.write_h5ad(tmp_path / "x.h5ad")
    message = r"^adata: got the variable 'f' at place 0, expected 'a' of the schema; take adata\[:, list"
    for act in (
        lambda: by_name.predict(turned),
        lambda: by_name.predict(tmp_path / "x.h5ad"),
        lambda: fit(turned, by_name.config, progress=False),
        lambda: annotate(turned, by_name, layer="same"),
    ):
        with pytest.raises(ValueError, match=message):
            act()
    with pytest.raises(ValueError, match=r"^adata: got 5 variables, expected the 6 of the schema$"):
        by_name.predict(fewer)
    names = list(by_name.model.schema.names)
    assert np.array_equal(by_name.predict(turned[:, names].copy()), by_name.predict(cells))


def test_what_an_anndata_lacks():
    cells = anndata.AnnData(obs=pd.DataFrame(index=["a", "b"]))
    with pytest.raises(ValueError, match="without X, expected one with it; choose a layer"):
        fit(cells)
    with pytest.raises(ValueError, match="layer: got 'counts'"):
        from_anndata(cells, layer="counts")
    with pytest.raises(TypeError, match="adata: got a list, expected an AnnData"):
        from_anndata([1])


def test_files_that_are_no_anndata(tmp_path):
    with pytest.raises(FileNotFoundError, match="where there is no file"):
        as_tensor(tmp_path / "x.h5ad")
    (tmp_path / "x.h5ad").write_text("x")
    with pytest.raises(ValueError, match="which anndata cannot read"):
        as_tensor(tmp_path / "x.h5ad")


def test_dicts_need_a_key(x):
    rows = datasets.Dataset.from_dict({"row": list(x[:4])})
    for data in (rows, Dicts(x), DataLoader(Dicts(x), 4)):
        with pytest.raises(TypeError, match=r"a dict with keys \['row'.*from_dicts\(dataset"):
            fit(data)
    with pytest.raises(ValueError, match=r"without the key 'image', expected one of \['row'\]"):
        as_tensor(from_dicts([{"row": x[0]}], "image"))
    with pytest.raises(TypeError, match="items that are a list, expected dicts"):
        as_tensor(from_dicts([[1]], "image"))
    with pytest.raises(TypeError, match="got a int, expected a dataset"):
        from_dicts(3, "image")


def test_anndata_is_asked_for(tmp_path):
    path = tmp_path / "x.h5ad"
    path.touch()
    code = f"import sys; sys.modules['anndata'] = None; import pyro_mfcvae as m; m.fit({str(path)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "anndata is not installed, which reads it; run pip install anndata" in result.stderr
