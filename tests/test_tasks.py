import gzip
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptik import tasks
from adaptik.system.errors import DatasetNotFoundError, InputError
from adaptik.tasks import (
    Task,
    accuracy,
    hermite_pair,
    images,
    linear_pair,
    load,
    load_pair,
    multi_index_pair,
)
from adaptik.tasks.files import encode_labels

X2 = [[1.0, 0.0], [0.0, 1.0]]
PAIR = dict(n_source=5, n_target=5)


def mean_square(X):
    return np.mean(np.sum(X**2, axis=1))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(X=X2, y=["a", "b"]), "y must be numeric"),
        (dict(X=[1.0, 2.0], y=[-1, 1]), "X must have 2 dimensions"),
        (dict(X=np.zeros((0, 2)), y=[]), "X is empty"),
        (dict(X=[[np.nan, 0], [1, 1]], y=[-1, 1]), "X has NaN or infinite values in 1 rows"),
        (dict(X=X2, y=[np.inf, 1]), "y has NaN or infinite"),
        (dict(X=X2, y=[1, -1, 1]), "X has 2 samples but y has 3"),
        (dict(X=X2, y=[-1, 1], X_test=X2), "both X_test and y_test"),
        (dict(X=X2, y=[-1, 1], X_test=X2, y_test=[1]), "X_test has 2 samples but y_test has 1"),
        (dict(X=X2, y=[-1, 1], X_test=[[1.0]], y_test=[1]), "1 features"),
        (dict(X=X2, y=[1, 1]), "y is a single class"),
        (dict(X=np.zeros((2, 2)), y=[-1, 1]), "X is zero"),
    ],
)
def test_bad_task_names_its_argument(arguments, names):
    with pytest.raises(InputError, match=re.escape(names)) as refusal:
        Task(**arguments, name="mine")
    assert "'mine'" in str(refusal.value) and "\n" not in str(refusal.value)


def test_task_keeps_its_own_read_only_copy():
    X = np.eye(2)
    task = Task(X, [-1, 1])
    X[:] = 0
    assert task.X.sum() == 2
    with pytest.raises(ValueError, match="read-only"):
        task.X[0] = 3


def test_a_missing_split_and_a_subset():
    task = Task(np.eye(4), [-1, 1, -1, 1], name="mine")
    assert task.splits == ("train",)
    with pytest.raises(InputError, match="no test data"):
        task.split("test")
    fold = task.subset(np.array([0, 1]), np.array([3]), "fold")
    assert fold.X_test is not None and fold.X_test[0, 3] == 1 and fold.n_train == 2


def test_accuracy_of_signs_and_of_classes():
    binary = Task(X2, [-1, 1])
    assert accuracy(binary, np.array([[-0.1], [-0.2]]), binary.y) == 0.5
    many = Task(np.eye(3), np.eye(3))
    f = np.stack([np.eye(3), np.roll(np.eye(3), 1, axis=0)])
    assert accuracy(many, f, many.y).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: linear_pair(1.5, **PAIR), "alignment"),
        (lambda: linear_pair(float("nan"), **PAIR), "alignment"),
        (lambda: linear_pair(0.5, **PAIR, dimension=1), "dimension"),
        (lambda: linear_pair(0.5, n_source=0, n_target=5), "n_source"),
        (lambda: linear_pair(0.5, n_source=5, n_target=0), "n_target"),
        (lambda: linear_pair(0.5, **PAIR, n_test=0), "n_test"),
        (lambda: linear_pair(0.5, **PAIR, source_noise=-1), "source_noise"),
        (lambda: linear_pair(0.5, **PAIR, target_noise=float("nan")), "target_noise"),
        (lambda: linear_pair(0.5, **PAIR, spectrum=np.ones(3)), "spectrum"),
        (lambda: linear_pair(0.5, **PAIR, dimension=2, spectrum=[-1, 2]), "spectrum"),
        (lambda: linear_pair(0.5, **PAIR, dimension=2, spectrum=[0, 0]), "spectrum"),
        (lambda: hermite_pair(0, 2, 0.5, **PAIR), "source_degree"),
        (lambda: hermite_pair(1, 2.5, 0.5, **PAIR), "target_degree"),  # type: ignore[arg-type]
        (lambda: multi_index_pair(-1, 1, 1, **PAIR), "shared"),
        (lambda: multi_index_pair(0, 1, 0, **PAIR), "target_only=0 leave"),
        (lambda: multi_index_pair(0, 0, 1, **PAIR), "source_only=0 leave"),
        (lambda: multi_index_pair(2, 2, 2, **PAIR, dimension=5), "dimension=5 holds no 6"),
        (lambda: multi_index_pair(1, 1, 1, **PAIR, link="max"), "link"),
        (lambda: multi_index_pair(1, 1, 1, **PAIR, target_link=np.tanh), "target_link gave"),
        (lambda: multi_index_pair(1, 1, 1, **PAIR, degree=0), "degree"),
        (lambda: multi_index_pair(1, 1, 1, **PAIR, source_noise=-1.0), "source_noise"),
        (lambda: multi_index_pair(1, 1, 1, n_source=0, n_target=5), "n_source"),
    ],
)
def test_bad_teacher_names_its_argument(call, names):
    with pytest.raises(InputError, match=names):
        call()


def teacher(task):
    return np.linalg.lstsq(task.X_test, task.y_test[:, 0], rcond=None)[0]


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.floats(-1, 1), st.integers(0, 100))
def test_linear_teachers_have_the_asked_overlap(alignment, seed):
    pair = linear_pair(alignment, n_source=5, n_target=5, dimension=7, n_test=50, seed=seed)
    beta_s, beta_t = (teacher(task) for task in pair)
    # y = beta.x/sqrt(D) with |beta|^2 = D: the fitted vectors are beta/sqrt(D), of norm 1.
    np.testing.assert_allclose([beta_s @ beta_s, beta_t @ beta_t], 1, rtol=1e-9)
    assert beta_s @ beta_t == pytest.approx(alignment, abs=1e-9)


def test_spectrum_shapes_the_inputs_and_keeps_unit_labels():
    spectrum = np.array([6.0, 1.0, 1.0, 0.0])
    task = linear_pair(0.3, **PAIR, dimension=4, n_test=60_000, spectrum=spectrum)[0]
    assert task.X_test is not None and task.y_test is not None
    np.testing.assert_allclose(task.X_test.var(0), spectrum / 2, rtol=0.03)
    assert task.y_test.var() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_hermite_teacher_is_its_polynomial_of_unit_variance(degree):
    first, second = hermite_pair(1, degree, 1.0, **PAIR, dimension=3, n_test=60_000, seed=3)
    assert first.X_test is not None and second.X_test is not None and second.y_test is not None
    u = second.X_test @ teacher(first)  # alignment 1: both read the same direction
    expected = {1: u, 2: (u**2 - 1) / 2**0.5, 3: (u**3 - 3 * u) / 6**0.5}[degree]
    np.testing.assert_allclose(second.y_test[:, 0], expected, atol=1e-9)
    assert second.y_test.var() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("link", "degree"), [("sum", 1), ("sum", 2), ("sum", 3), ("product", 1)])
def test_multi_index_teachers_are_of_mean_0_and_variance_1(link, degree):
    pair = multi_index_pair(
        1, 1, 0, **PAIR, dimension=4, n_test=200_000, link=link, degree=degree, seed=1
    )
    for task in (pair.source, pair.target):
        assert task.y_test is not None
        assert task.y_test.mean() == pytest.approx(0, abs=0.015)
        assert task.y_test.var() == pytest.approx(1, abs=0.05)


def test_multi_index_teachers_share_the_directions_they_say():
    source, target, directions = multi_index_pair(
        1, 2, 1, **PAIR, dimension=6, n_test=40, link="sum", target_link="product", degree=2
    )
    every = np.concatenate(directions)
    np.testing.assert_allclose(every @ every.T, np.eye(4), atol=1e-12)
    bend = [
        (X @ np.concatenate([directions.shared, own]).T) ** 2 - 1
        for X, own in ((source.X_test, directions.source), (target.X_test, directions.target))
    ]  # He_2
    np.testing.assert_allclose(source.y_test[:, 0], bend[0].sum(1) / 6**0.5, atol=1e-12)
    np.testing.assert_allclose(target.y_test[:, 0], bend[1].prod(1) / 2, atol=1e-12)


def test_functions_as_links_see_shared_directions_first():
    source, target, directions = multi_index_pair(
        1, 1, 1, **PAIR, dimension=6, link=lambda u: u[:, 0] + 3 * u[:, 1], target_noise=0.5
    )
    for task, own in ((source, directions.source), (target, directions.target)):
        beta = (directions.shared + 3 * own)[0]
        np.testing.assert_allclose(task.X_test @ beta, task.y_test[:, 0], atol=1e-12)
    assert (
        np.abs(target.X @ (directions.shared + 3 * directions.target)[0] - target.y[:, 0]).min()
        > 1e-3
    )


def test_noise_is_a_variance_and_only_on_training_labels():
    noisy = linear_pair(0.5, n_source=20_000, n_target=5, dimension=4, source_noise=0.25)[0]
    beta = teacher(noisy)
    assert np.var(noisy.y[:, 0] - noisy.X @ beta) == pytest.approx(0.25, rel=0.05)
    assert noisy.X_test is not None and noisy.y_test is not None
    np.testing.assert_allclose(noisy.X_test @ beta, noisy.y_test[:, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: load("letters", (0, 1)), "unknown data set 'letters'"),
        (lambda: load("digits"), "two different classes"),
        (lambda: load("digits", (3,)), "two different classes"),
        (lambda: load("digits", (3, 3)), "two different classes"),
        (lambda: load("digits", (3, 11)), r"unknown classes \[11\]"),
        (lambda: load("digits", (3, 5), n_train=0), "n_train"),
        (lambda: load("digits", (3, 5), n_test=-1), "n_test"),
        (lambda: load("digits", (3, 5), n_train=5000), "only 1"),
        (lambda: load("digits", (1, 2, 3), n_train=2), "cannot cover 3 classes"),
        (lambda: load("mine.csv", (0, 1)), "classes apply to named data sets"),
        (lambda: load("missing.npz"), "no such file: missing.npz"),
        (lambda: load_pair("digits:a", "digits:0,1"), "name the classes"),
    ],
)
def test_bad_request_names_its_argument(call, names):
    with pytest.raises(InputError, match=names):
        call()


def test_first_class_is_minus_one_and_more_are_one_hot():
    data = images.read("digits")
    known = {row.tobytes(): k for row, k in zip(data.train_images, data.train_labels, strict=True)}
    raw = tasks.loading._raw("digits", (5, 3), 30, 20, 0, {})
    labels = np.array([known[row.tobytes()] for row in raw.X])
    np.testing.assert_array_equal(raw.y[:, 0], np.where(labels == 5, -1, 1))
    assert raw.y.sum() == 0  # balanced
    many = tasks.loading._raw("digits", (7, 1, 4), 30, 20, 0, {})
    labels = np.array([known[row.tobytes()] for row in many.X])
    np.testing.assert_array_equal(np.array([7, 1, 4])[many.y.argmax(1)], labels)
    assert many.classes == ("7", "1", "4")


def test_inputs_are_scaled_with_the_sources_statistics():
    source, target = load_pair("digits:3,5", "digits:8,9", n_source=100, n_target=20, n_test=50)
    assert mean_square(source.X) == pytest.approx(64)
    np.testing.assert_allclose(source.X.mean(0), 0, atol=1e-12)
    alone = load("digits", (8, 9), n_train=20, n_test=50)
    assert np.abs(target.X.mean(0)).max() > 0.1  # centred by the source, not by itself
    # One affine map for both: distances of the target keep their proportions.
    apart = np.linalg.norm(target.X[0] - target.X[1]) / np.linalg.norm(target.X[2] - target.X[3])
    raw = np.linalg.norm(alone.X[0] - alone.X[1]) / np.linalg.norm(alone.X[2] - alone.X[3])
    assert apart == pytest.approx(raw)


def test_training_and_test_inputs_are_scaled_alike(tmp_path):
    rng = np.random.default_rng(0)
    X, y = 5 + rng.standard_normal((12, 3)), np.arange(12) % 2
    np.savez(tmp_path / "same.npz", X=X, y=y, X_test=X, y_test=y)
    task = load(tmp_path / "same.npz")
    inputs = (sorted(map(tuple, part.round(9).tolist())) for part in (task.X, task.X_test))
    assert next(inputs) == next(inputs)


@pytest.mark.parametrize("target", ["digits:0,9", "digits:0,1"])
def test_a_shared_class_never_leaks(target):
    source, target = load_pair("digits:0,1", target, n_source=60, n_target=20)
    assert source.name != target.name

    def rows(X):
        return {row.round(9).tobytes() for row in X}

    assert rows(source.X).isdisjoint(rows(target.X) | rows(target.X_test))
    assert rows(target.X).isdisjoint(rows(target.X_test))


def test_shared_classes_run_out_with_a_message():
    with pytest.raises(InputError, match="ask for fewer"):
        load_pair("digits:0,1", "digits:0,1", n_source=200, n_target=200)


def test_seeds_choose_samples():
    a, b, c = (load("digits", (3, 5), n_train=40, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.X, b.X)
    assert (a.X[:, 20] != c.X[:, 20]).any()


def write_npz(path, *, rows=30, features=3, seed=0, **extra):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 2
    arrays = dict(X=rng.normal(size=(rows, features)), y=y) | extra
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_npz_holds_out_a_fifth_or_uses_its_own_test_data(tmp_path):
    task = load(write_npz(tmp_path / "mine.npz"))
    assert (task.n_train, len(task.split("test")[0]), task.name) == (24, 6, "mine")
    assert set(task.y.ravel()) == {-1, 1} and task.classes == ("0", "1")
    assert mean_square(task.X) == pytest.approx(3)
    path = write_npz(tmp_path / "own.npz", X_test=np.ones((4, 3)), y_test=[0, 0, 1, 1])
    own = load(path, n_train=10)
    assert (own.n_train, own.split("test")[1].ravel().tolist()) == (10, [-1, -1, 1, 1])


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        (dict(y=None), "lacks y"),
        (dict(X_test=np.ones((2, 3))), "both X_test and y_test"),
        (dict(X=np.ones(30)), "must be"),
        (dict(y=np.ones(7)), "must be"),
        (dict(y=np.ones(30)), "single class"),
        (dict(y=np.array([{}] * 30, dtype=object)), "without pickles"),
        (dict(X=np.full((30, 3), np.nan)), "NaN"),
        (dict(y=np.full(30, np.inf)), "y has NaN or infinite"),
    ],
)
def test_bad_npz_says_what_is_wrong(tmp_path, extra, names):
    with pytest.raises(InputError, match=names):
        load(write_npz(tmp_path / "bad.npz", **extra))


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"no archive", b""])
def test_unreadable_npz_is_an_input_error(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.npz"):
        load(path)


def test_a_single_array_is_not_an_archive(tmp_path):
    np.save(tmp_path / "one.npy", np.ones((4, 2)))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InputError, match=r"one\.npz"):
        load(tmp_path / "one.npz")


def test_file_counts_and_formats(tmp_path):
    path = write_npz(tmp_path / "mine.npz")
    with pytest.raises(InputError, match="n_test=30"):
        load(path, n_test=30)
    with pytest.raises(InputError, match="n_train=29"):
        load(path, n_train=29)
    with pytest.raises(InputError, match="unknown data set"):
        load(tmp_path / "mine.xlsx")


def test_csv_label_by_name_or_last(tmp_path):
    named = tmp_path / "named.csv"
    lines = [f"{'cat' if k % 2 else 'dog'},{k},{k * k % 7}" for k in range(20)]
    named.write_text("label,a,b\n" + "\n".join(lines) + "\n")
    last = tmp_path / "last.csv"
    moved = [",".join([*line.split(",")[1:], line.split(",")[0]]) for line in lines]
    last.write_text("a,b,kind\n" + "\n".join(moved) + "\n")
    first, second = load(named), load(last)
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.y, second.y)
    assert first.classes == ("cat", "dog")  # sorted: cat is -1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,label\n1,0\n", "at least two samples"),
        ("a,label\n1,0\n2\n3,1\n", "line 3 does not have 2 columns"),
        ("a,label\nx,0\n2,1\n3,1\n", "features must be numeric"),
        ("a,label\n1,0\n2,0\n3,0\n", "single class"),
        ("a,label\n1,0\nnan,1\n3,0\n4,1\n5,0\n6,1\n", "NaN"),
    ],
)
def test_bad_csv_says_what_is_wrong(tmp_path, text, names):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=names):
        load(path)


def test_csv_that_is_no_text_is_an_input_error(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"a,label\n\xff\xfe,1\n2,0\n3,1\n")
    with pytest.raises(InputError, match=r"bad\.csv"):
        load(tmp_path / "bad.csv")


def test_labels_are_classes_or_numbers():
    y, classes = encode_labels(np.array([2, 0, 1]), "t")
    np.testing.assert_array_equal(y, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert classes == ("0", "1", "2")
    for numbers in (np.array([0.5, 1.0]), np.arange(21)):
        y, classes = encode_labels(numbers, "t")
        assert classes == () and y is numbers


def test_rows_of_the_target_leave_the_source(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", X=X[:30], y=y[:30], X_test=X[30:], y_test=y[30:])
    np.savez(tmp_path / "b.npz", X=X[20:30], y=y[20:30], X_test=X[:5], y_test=y[:5])
    source, target = load_pair(str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))
    assert (source.n_train, target.n_train) == (15, 10)
    with pytest.raises(InputError, match="every training row of source"):
        load_pair(str(tmp_path / "b.npz"), str(tmp_path / "a.npz"))


def test_pairs_share_their_input_space(tmp_path):
    with pytest.raises(InputError, match=r"64 features and target .* 3"):
        load_pair("digits:3,5", str(write_npz(tmp_path / "mine.npz")))


def test_identical_inputs_have_no_scale(tmp_path):
    path = write_npz(tmp_path / "flat.npz", X=np.ones((30, 3)))
    with pytest.raises(InputError, match="all training inputs are identical"):
        load(path)


def test_features_of_very_different_scales_are_divided_by_their_spread(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 1e4]
    task = load(write_npz(tmp_path / "wide.npz", rows=200, X=X))
    np.testing.assert_allclose(task.X.var(0), 1)


@pytest.mark.parametrize(("name", "dimension"), [("fashion-mnist", 784), ("cifar10", 3072)])
def test_image_files(shared_data, name, dimension):
    shared_data(name.replace("-", "_"))
    task = load(name, (0, 9), n_train=20, n_test=30)
    assert task.X.shape == (20, dimension) and len(task.split("test")[0]) == 30
    assert mean_square(task.X) == pytest.approx(dimension)


@pytest.fixture
def only_folder(tmp_path, monkeypatch):
    """A data folder, searched alone."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sets"
    folder.mkdir()
    monkeypatch.setenv("ADAPTIK_DATA", str(folder))
    monkeypatch.setattr(images, "_DEBIAN_FASHION", tmp_path / "none")
    return folder


def test_a_missing_data_set_names_three_ways_to_get_it(only_folder, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", offline)
    for name, way in (("cifar10", "cifar-10-batches-bin"), ("fashion-mnist", "Debian package")):
        with pytest.raises(DatasetNotFoundError) as refusal:
            load(name, (0, 1))
        assert all(part in str(refusal.value) for part in ("ADAPTIK_DATA", way, "OpenML"))


def test_cifar_binary_records(only_folder):
    folder = only_folder / "cifar-10-batches-bin"
    folder.mkdir()
    records = np.zeros((4, 3073), np.uint8)
    records[:, 0] = [0, 1, 0, 1]
    records[:, 1] = [10, 20, 30, 40]
    records.tofile(folder / "data_batch_1.bin")
    records[:2].tofile(folder / "test_batch.bin")
    data = images.read("cifar10")
    np.testing.assert_array_equal(data.train_labels, [0, 1, 0, 1])
    np.testing.assert_array_equal(data.train_images[:, 0], [10, 20, 30, 40])
    assert data.test_images.shape == (2, 3072)


def test_fashion_idx_files(only_folder):
    pixels = (np.arange(2 * 784) % 251).astype(np.uint8)
    for part in ("train", "t10k"):
        for kind, header, body in (
            ("images-idx3", 16, pixels.tobytes()),
            ("labels-idx1", 8, bytes([3, 7])),
        ):
            with gzip.open(only_folder / f"{part}-{kind}-ubyte.gz", "wb") as stream:
                stream.write(bytes(header) + body)
    data = images.read("fashion-mnist")
    np.testing.assert_array_equal(data.train_images.ravel(), pixels)
    np.testing.assert_array_equal(data.test_labels, [3, 7])


def test_an_image_archive_without_its_keys(only_folder):
    np.savez(only_folder / "cifar10.npz", X=np.ones(3))
    with pytest.raises(InputError, match="lacks train_images"):
        images.read("cifar10")


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufefflabel,a\n" + "".join(f"{k % 2},{k}\n" for k in range(20)), "utf-8")
    assert load(path).classes == ("0", "1")
