"""Bases that grow: what they hold, how many directions they take, and where vectors are full."""

import numpy as np
import pytest

from adaptik.mathematics.bases import BasisFull, Columns, Packing, axes_of, meet


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_columns_are_held_by_as_few_directions_as_are_enough(size):
    rng = np.random.default_rng(0)
    axes = np.sqrt(size) * np.linalg.qr(rng.standard_normal((30, 5)))[0]
    basis, others = axes[:, :3], axes[:, 3:]
    others = others * [1.0, 2e-3]  # the second hardly more than what may be missed
    V = basis @ rng.standard_normal((3, 4)) + others @ rng.standard_normal((2, 4))
    V += 1e-5 * rng.standard_normal(V.shape)  # below what may be missed
    inside, new = meet(basis, V, 1e-3, size)
    assert new.shape == (30, 2)
    whole = np.concatenate([basis, new], axis=1)
    np.testing.assert_allclose(whole.T @ whole / size, np.eye(5), atol=1e-12)
    missed = np.linalg.norm(V - whole @ inside, axis=0)
    assert (missed <= 1e-3 * np.linalg.norm(V, axis=0)).all()
    again, none = meet(whole, V, 1e-3, size)
    assert none.shape == (30, 0)
    np.testing.assert_allclose(again, inside, atol=1e-12)
    assert meet(basis, V, 1e-9, size)[1].shape == (30, 4)


def test_matrices_come_back_from_their_vector_until_it_is_full():
    packing = Packing([(3, 2), (2, 2)])
    matrices = [np.arange(4.0).reshape(2, 2), 5 + np.arange(2.0).reshape(2, 1)]
    y = packing.pack(matrices)
    assert y.shape == (10,)
    for M, found in zip(matrices, packing.unpack(y, [(2, 2), (2, 1)]), strict=True):
        np.testing.assert_array_equal(found, M)
    assert not packing.unpack(y, [(3, 2), (2, 2)])[1][:, 1].any()  # what grows starts at 0
    packing.check(0, (3, 2))
    for shape in ((4, 2), (3, 3)):
        with pytest.raises(BasisFull):
            packing.check(0, shape)


def test_views_of_columns_stay_as_they_were():
    columns = Columns(np.ones((4, 1)))
    before = columns.array
    for _ in range(60):  # beyond the buffer's room
        columns.append(np.zeros((4, 2)))
    assert columns.array.shape == (4, 121)
    np.testing.assert_array_equal(before, np.ones((4, 1)))


@pytest.mark.parametrize("rows", [2, 3, 50])  # wide, square, of several blocks
def test_axes_are_those_of_all_rows(rows):
    X = np.random.default_rng(0).standard_normal((rows, 3))
    _, values, vectors = np.linalg.svd(X, full_matrices=False)
    for matrices in ([X], [X[:1], X[1:]]):
        found, axes = axes_of(matrices)
        np.testing.assert_allclose(found, values, rtol=1e-12)
        np.testing.assert_allclose(np.abs(np.sum(axes * vectors, 1)), 1, rtol=1e-12)
