"""Image data sets: digits (ships with scikit-learn), Fashion-MNIST and CIFAR-10.

A data folder is searched in ``$ADAPTIK_DATA`` (several may be separated like ``PATH``) and in
``data``, ``../data`` and ``../shared/data``.
"""

import gzip
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..system.errors import DatasetNotFoundError, InputError
from . import archives

DATASETS = ("digits", "fashion-mnist", "cifar10")
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, eq=False)
class Images:
    """Flattened images with integer labels, already split into training and test pools."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def read(dataset: str) -> Images:
    """All images of ``dataset`` as float rows, in fixed training and test pools.

    Raises
    ------
    InputError
        For an unknown name.
    DatasetNotFoundError
        When the data are not on this machine and cannot be downloaded.
    """
    if dataset == "digits":
        return _digits()
    if dataset == "fashion-mnist":
        return _first_found(dataset, "fashion_mnist", "Fashion-MNIST", [_fashion_idx])
    if dataset == "cifar10":
        return _first_found(dataset, "cifar10", "CIFAR_10", [_cifar_batches])
    raise InputError(f"unknown data set {dataset!r}; use one of {', '.join(DATASETS)} or a file")


def _digits() -> Images:
    # The file is read where scikit-learn keeps it: importing that takes longer than a small solve.
    installed = find_spec("sklearn")
    assert installed is not None and installed.submodule_search_locations
    file = Path(installed.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        images, labels = table[:, :-1], table[:, -1].astype(int)
    else:
        from sklearn.datasets import load_digits

        images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):  # a fixed third of every class is the test pool
        held_out[np.flatnonzero(labels == label)[2::3]] = True
    return Images(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def data_folders() -> list[Path]:
    """Folders searched for data files, in order."""
    configured = [Path(p) for p in os.environ.get("ADAPTIK_DATA", "").split(os.pathsep) if p]
    return [*configured, Path("data"), Path("../data"), Path("../shared/data")]


def _first_found(dataset: str, prefix: str, openml: str, readers) -> Images:
    for folder in data_folders():
        for path in sorted(folder.glob(f"{prefix}*.npz")):
            return _npz(path)
        for reader in readers:
            found = reader(folder)
            if found is not None:
                return found
    if dataset == "fashion-mnist" and (found := _fashion_idx(_DEBIAN_FASHION)) is not None:
        return found
    return _openml(dataset, prefix, openml)


def _npz(path: Path) -> Images:
    keys = ("train_images", "train_labels", "test_images", "test_labels")
    archive = archives.read(path, keys)
    missing = [key for key in keys if key not in archive]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(keys)}")
    parts = [archive[key] for key in keys]
    flat = [p.reshape(len(p), -1).astype(float) if p.ndim > 1 else p.astype(int) for p in parts]
    return Images(*flat)


def _fashion_idx(folder: Path) -> Images | None:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    paths = [folder / f"{name}-ubyte.gz" for name in names]
    if not all(path.exists() for path in paths):
        return None
    parts = []
    for path in paths:
        with gzip.open(path) as stream:
            raw = stream.read()
        header = 16 if "images" in path.name else 8
        flat = np.frombuffer(raw, np.uint8, offset=header)
        parts.append(flat.reshape(-1, 784).astype(float) if header == 16 else flat.astype(int))
    return Images(*parts)


def _cifar_batches(folder: Path) -> Images | None:
    # The binary version (data_batch_1.bin ...): one label byte, then 3072 pixel bytes a record.
    folder = (
        folder / "cifar-10-batches-bin" if (folder / "cifar-10-batches-bin").exists() else folder
    )
    train = sorted(folder.glob("data_batch_*.bin"))
    test = folder / "test_batch.bin"
    if not train or not test.exists():
        return None
    records = [
        np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
        for paths in (train, [test])
    ]
    parts = [part for r in records for part in (r[:, 1:].astype(float), r[:, 0].astype(int))]
    return Images(*parts)


def _openml(dataset: str, prefix: str, openml: str) -> Images:
    from sklearn.datasets import fetch_openml

    try:
        images, labels = fetch_openml(
            openml, version=1, return_X_y=True, as_frame=False, parser="liac-arff", n_retries=0
        )
    except Exception as failure:
        debian = (
            "install the Debian package dataset-fashion-mnist"
            if dataset == "fashion-mnist"
            else "put the binary version's cifar-10-batches-bin folder there"
        )
        raise DatasetNotFoundError(
            f"data set {dataset!r} is not on this machine; get it in one of three ways: "
            f"put {prefix}.npz (keys train_images, train_labels, test_images, test_labels) in a "
            f"folder named by ADAPTIK_DATA; {debian}; or connect to the network so that OpenML "
            f"can be reached ({type(failure).__name__})"
        ) from None
    labels = labels.astype(int)
    n_train = 60000 if dataset == "fashion-mnist" else 50000
    return Images(images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])
