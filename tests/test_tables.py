"""A person's own tables: names, kinds of labels, containers, and files that are none."""

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import adaptik as ak
from adaptik.estimators import AdaptiveKernelClassifier, TransferKernelClassifier
from adaptik.system.errors import InputError
from adaptik.tasks import Task, load, load_pair
from adaptik.tasks.labels import decide, of_array

RNG = np.random.default_rng(0)
N = 24
NAMES = ["area", "rooms", "age"]
TABLE = pd.DataFrame(RNG.normal(size=(N, 3)).round(3), columns=NAMES).assign(
    label=lambda t: (t.area > 0).astype(int)
)
few = settings(derandomize=True, deadline=None, max_examples=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def written(folder, table, name="table.csv", **options):
    path = folder / name
    table.to_csv(path, index=False, **options)
    return path


def same(first: Task, second: Task) -> bool:
    """Whether both hold the same numbers, whatever their names and the names of classes."""
    pairs = [(first.X, second.X), (first.y, second.y), (first.X_test, second.X_test)]
    pairs.append((first.y_test, second.y_test))
    return all(np.array_equal(cast(Any, a), cast(Any, b)) for a, b in pairs)


# -- what leaves a loaded task unchanged -----------------------------------------------------


@few
@given(st.permutations([*NAMES, "label"]), st.permutations(range(N)), st.sampled_from(",;\t|:"))
def test_orders_of_columns_and_rows_and_separators_do_not_matter(folder, columns, rows, separator):
    plain = load(written(folder, TABLE))
    moved = written(folder, TABLE[columns].iloc[rows], "moved.csv", sep=separator)
    assert same(load(moved), plain) and load(moved).features == ("age", "area", "rooms")


@few
@given(st.sampled_from([("no", "yes"), (-1, 1), (4, 7), (False, True), ("Yes, sold", "a b")]))
def test_names_of_classes_do_not_matter(folder, names):
    renamed = TABLE.assign(label=[sorted(names)[k] for k in TABLE.label])
    task = load(written(folder, renamed, "renamed.csv"))
    assert same(task, load(written(folder, TABLE))) and len(task.classes) == 2


DTYPES = ["bool", "int8", "uint16", "int64", "float32", "float64", "Int64", "Float64", "boolean",
          "category", "object"]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_of_columns_do_not_matter(folder, monkeypatch, dtype):
    table = TABLE.assign(rooms=(TABLE.rooms > 0).astype(int))
    typed = table.astype({"label": dtype, "rooms": dtype})
    plain = load(written(folder, table))
    assert same(load(written(folder, typed, "typed.csv")), plain)
    (folder / "typed.parquet").touch()
    monkeypatch.setattr(pd, "read_parquet", lambda path: typed)
    assert same(load(folder / "typed.parquet"), plain)
    if dtype not in ("Int64", "Float64", "boolean", "category", "object"):
        y = table.label.to_numpy().astype(dtype)
        np.savez(folder / "typed.npz", X=table[NAMES].to_numpy(), y=y, columns=np.array(NAMES))
        assert same(load(folder / "typed.npz"), plain)


@pytest.mark.parametrize("shape", ["(n,)", "(n, 1)", "one-hot", "text", "text (n, 1)", "bytes"])
def test_forms_of_labels_mean_the_same(folder, shape):
    y = TABLE.label.to_numpy()
    forms = {
        "(n,)": y, "(n, 1)": y[:, None], "one-hot": np.eye(2)[y], "text": y.astype(str),
        "text (n, 1)": np.array(["a", "b"])[y][:, None], "bytes": np.array([b"a", b"b"])[y],
    }  # fmt: skip
    np.savez(folder / "form.npz", X=TABLE[NAMES], y=forms[shape], columns=np.array(NAMES))
    assert same(load(folder / "form.npz"), load(written(folder, TABLE)))


@pytest.mark.parametrize("container", ["list", "memmap", "Fortran", "DataFrame"])
def test_containers_do_not_matter_for_a_task(tmp_path, container):
    X = TABLE[NAMES].to_numpy()
    stored = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    stored[:] = X
    given = {"list": X.tolist(), "memmap": stored, "Fortran": np.asfortranarray(X)}
    task = Task(given.get(container, TABLE[NAMES]), TABLE.label * 2 - 1)
    np.testing.assert_array_equal(task.X, X)
    assert task.features == (tuple(NAMES) if container == "DataFrame" else ())


def test_test_inputs_of_a_task_are_matched_by_name():
    y = TABLE.label * 2 - 1
    task = Task(TABLE[NAMES], y, TABLE[NAMES[::-1]], y)
    np.testing.assert_array_equal(task.X, cast(Any, task.X_test))
    with pytest.raises(InputError, match=r"X_test lacks 'area' and has 'tax' besides"):
        Task(TABLE[NAMES], y, TABLE[NAMES].rename(columns={"area": "tax"}), y)
    other = Task(TABLE[NAMES[::-1]], y, name="other")
    with pytest.raises(InputError, match="columns"):
        ak.solve([ak.Stage(task, 0.0), ak.Stage(other, 0.0)], ak.TwoLayer("relu"))


# -- pairs -----------------------------------------------------------------------------------


def pair_of(folder, source, target, **options):
    files = written(folder, source, "source.csv"), written(folder, target, "target.csv")
    return load_pair(*map(str, files), **options)


OTHER = TABLE.assign(area=TABLE.area + 0.5, label=TABLE.label)


@pytest.mark.parametrize("side", [0, 1])
def test_pairs_are_joined_by_name(folder, side):
    tables = [TABLE, OTHER]
    plain = pair_of(folder, *tables)
    tables[side] = tables[side][["age", "label", "area", "rooms"]]
    assert all(same(a, b) for a, b in zip(pair_of(folder, *tables), plain, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.rename(columns={"age": "tax"}), r"lacks 'age' and has 'tax' besides"),
        (lambda t: t.drop(columns="age"), r"target .*target\.csv lacks 'age', compared with"),
        (lambda t: t.assign(tax=1.0), r"has 'tax' besides"),
    ],
)
def test_columns_without_a_counterpart_are_named(folder, change, said):
    with pytest.raises(InputError, match=said):
        pair_of(folder, TABLE, change(OTHER))


def test_names_on_one_side_alone_cannot_be_matched(folder):
    table = str(written(folder, TABLE))
    np.savez(folder / "bare.npz", X=OTHER[NAMES], y=OTHER.label)
    with pytest.raises(InputError, match="'columns' with the names"):
        load_pair(table, str(folder / "bare.npz"))
    np.savez(folder / "named.npz", X=OTHER[NAMES], y=OTHER.label, columns=np.array(NAMES))
    assert load_pair(table, str(folder / "named.npz"))[1].features == ("age", "area", "rooms")
    with pytest.raises(InputError, match="images do not"):
        load_pair("digits:3,5", table)


@pytest.mark.parametrize(
    ("ours", "theirs", "order"),
    [
        (["bad", "good"], ["good", "ugly"], ("ugly", "good")),
        (["bad", "good"], ["bad", "good"], ("bad", "good")),
        (["bad", "good"], ["fair", "poor"], ("fair", "poor")),
        (["a", "b", "c"], ["b", "c", "d"], ("d", "b", "c")),
        (["a", "b", "c"], ["b", "c"], ("c", "b")),
    ],
)
def test_shared_class_names_keep_their_code(folder, ours, theirs, order):
    source = TABLE.assign(label=np.resize(ours, N))
    target = OTHER.assign(label=np.resize(theirs, N))
    first, second = pair_of(folder, source, target)
    assert first.classes == tuple(ours) and second.classes == order
    alone = load(written(folder, target, "alone.csv"))
    moved = [alone.classes.index(name) for name in order]
    if len(theirs) == 2:
        np.testing.assert_array_equal(second.y, alone.y if moved == [0, 1] else -alone.y)
    else:
        np.testing.assert_array_equal(second.y, alone.y[:, moved])


def test_a_shared_image_class_keeps_its_code():
    _, target = load_pair("digits:3,5", "digits:5,8", n_source=20, n_target=20)
    assert target.classes == ("8", "5")


PRICES = np.array([450000.0, 310000, 297000, 512000])


@pytest.mark.parametrize(
    ("sides", "kinds"),
    [
        ([[0, 1, 1, 2]], ["classes"]),
        ([[-1, 1, 1]], ["classes"]),
        ([[True, False]], ["classes"]),
        ([["a", "b"]], ["classes"]),
        ([PRICES], ["numbers"]),
        ([[0, 1, 20]], ["numbers"]),
        ([[0.5, 1, 2]], ["numbers"]),
        ([np.eye(3)], ["classes"]),
        ([np.ones((3, 2))], ["numbers"]),
        ([[3, 4, 5], PRICES], ["numbers", "numbers"]),
        ([[0, 1], ["a", "b"]], ["classes", "classes"]),
        ([["a", "b"], PRICES], ["classes", "numbers"]),
    ],
)
def test_tables_decide_together_what_labels_are(sides, kinds):
    for repeats in (1, 100):  # the number of rows plays no part
        read = [of_array(np.concatenate([y] * repeats), "t", str) for y in sides]
        assert decide(read) == kinds
    assert decide([of_array(y, "t", str) for y in sides], "classes") == ["classes"] * len(sides)


def test_what_labels_are_is_said_and_can_be_said(folder):
    assumed = load(written(folder, TABLE))
    assert assumed.classes == ("0", "1")
    (note,) = assumed.notes
    assert "column 'label', are taken for classes (whole, -1 to 19)" in note and "--kind" in note
    numbers = load(written(folder, TABLE), kind="numbers")
    assert (numbers.classes, numbers.notes, set(numbers.y.ravel())) == ((), (), {0.0, 1.0})
    prices = TABLE.assign(label=np.resize(PRICES, N))
    assert len(load(written(folder, prices), kind="classes").classes) == 4
    with pytest.raises(InputError, match="kind must be 'classes' or 'numbers', got 'price'"):
        load(written(folder, TABLE), kind=cast(Any, "price"))
    with pytest.raises(InputError, match="labels of digits are classes"):
        load("digits", (3, 5), kind="numbers")
    with pytest.raises(InputError, match=r"label no at line 2, column 'label' is no number"):
        load(written(folder, TABLE.assign(label="no")), kind="numbers")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("NA", r"the label at line 9, column 'price' is missing \('NA'\)"),
        ("", r"line 9, column 'price' is missing \(''\)"),
        ("n/a", "is missing"),
        ("cheap", "label cheap at line 9, column 'price' is no number though others are"),
        ("inf", "NaN or infinite values, the first at line 9, column 'price'"),
    ],
)
def test_a_bad_label_is_refused_with_its_place(folder, cell, said):
    label = [f"{1000 * k}" for k in range(N)]
    label[7] = cell
    table = TABLE.drop(columns="label").assign(price=label)
    with pytest.raises(InputError, match=said):
        load(written(folder, table, "bad.csv"))


@pytest.mark.parametrize("cell", ["450,000", "$12.5", "12 %", "1'200"])
def test_numbers_with_separators_or_units_are_no_classes(folder, cell):
    with pytest.raises(InputError, match="looks like a number"):
        load(written(folder, TABLE.assign(label=cell), "bad.csv"))


def test_the_command_line_takes_and_tells_kinds(folder, run, capsys):
    source, target = written(folder, TABLE, "ours.csv"), written(folder, OTHER, "theirs.csv")
    command = (
        f"transfer --source {source} --target {target} --richness 0 --target-richness 0 --folds 2 "
        f"--check-seeds 0 --particles 96 --replicates 2 --out {folder}/report"
    )
    assert run(f"{command} --kind prices") == 2
    assert "kind must be 'classes' or 'numbers', got 'prices'" in capsys.readouterr().err
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "note: labels of" in printed and "are taken for classes (whole, -1 to 19)" in printed
    assert "accuracy" in printed and "are taken for" in (folder / "report/report.html").read_text()


# -- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quoting", [0, 1])
def test_spreadsheets_dialects_hold_the_same_table(folder, end, coding, quoting):
    options = dict(lineterminator=end, encoding=coding, quoting=quoting, sep=";")
    path = written(folder, TABLE, "dialect.csv", **options)
    assert same(load(path), load(written(folder, TABLE)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.5,2,0\n2.5,1,1\n3,3,0\n", "the first row holds numbers"),
        (",a,label\n0,1,0\n1,2,1\n2,4,0\n", "column 1 has no name"),
        ("a,a,label\n0,1,0\n1,2,1\n2,4,0\n", "two columns are called 'a'"),
        ("label\n0\n1\n0\n", "has one column"),
        ("a;label\n1,5;0\n2,5;1\n3,5;0\n", "line 2, column 'a' holds '1,5', .* a point for dec"),
        ("a,label\n1,0\n2,1,7\n3,1\n", "line 3 does not have 2 columns"),
        ("a,label\n1,0\n2,1\n3", "line 4 does not have 2 columns"),
        ("a,label\ninf,0\n2,1\n3,1\n", "line 2, column 'a' holds 'inf'"),
        ("", "header row"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(folder, text, said):
    (folder / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=said) as refusal:
        load(folder / "bad.csv")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["x" * 5000 + ".npz", "y" * 300 + ".csv", "a\0b.npz", "."])
def test_names_that_no_file_has_are_refused(name):
    with pytest.raises(InputError):
        load(name)


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow"])
def test_columnar_files_need_pyarrow(folder, monkeypatch, suffix):
    def absent(path):
        raise ImportError("no pyarrow")

    for reader in ("read_parquet", "read_feather"):
        monkeypatch.setattr(pd, reader, absent)
    (folder / f"mine.{suffix}").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="pip install pyarrow"):
        load(folder / f"mine.{suffix}")


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_columnar_files_are_read_and_damaged_ones_refused(folder, suffix):
    pytest.importorskip("pyarrow")
    path = folder / f"real.{suffix}"
    getattr(TABLE, f"to_{suffix}")(path)
    assert same(load(path), load(written(folder, TABLE)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a readable"):
        load(path)


def test_rows_in_training_and_test_data_are_counted_and_said(folder):
    X, y = TABLE[NAMES].to_numpy(), TABLE.label
    np.savez(folder / "leaky.npz", X=X, y=y, X_test=np.vstack([X[:4], X[4:5] + 1]), y_test=y[:5])
    notes = load(folder / "leaky.npz").notes
    assert "leaky: 4 of 5 test rows also stand in the training data" in notes
    half = dict(X=X[:16], y=y[:16], X_test=X[16:20] + 1, y_test=y[16:20])
    np.savez(folder / "half.npz", **half)
    source, _ = load_pair(str(folder / "leaky.npz"), str(folder / "half.npz"))
    assert any("16 of 24 training rows were left out" in note for note in source.notes)


# -- sparse, and estimators ------------------------------------------------------------------


def test_sparse_inputs_are_refused_alike_for_source_and_target():
    X, y = TABLE[NAMES].to_numpy(), TABLE.label.to_numpy()
    with pytest.raises(InputError, match=r"give X\.toarray"):
        Task(sparse.csr_array(X), 2 * y - 1)
    for source, target in (((sparse.csr_array(X), y), X), ((X, y), sparse.csr_array(X))):
        with pytest.raises((InputError, TypeError), match="dense data is required"):
            TransferKernelClassifier(source).fit(target, y)


OPTIONS = dict(mode="lazy", head="kept", source_richness=0.0, particles=128)


@settings(few, max_examples=4)
@given(st.permutations(NAMES), st.sampled_from(["pair", "fitted"]), st.booleans())
def test_a_sources_columns_and_class_names_are_matched(columns, form, renamed):
    names = np.array(["bad", "good"])
    X, y = TABLE[NAMES], names[TABLE.label]
    target, z = OTHER[NAMES], np.array(["good", "ugly"] if renamed else names)[TABLE.label]

    def fitted(source):
        if form == "fitted":
            source = AdaptiveKernelClassifier(richness=0.0, particles=128).fit(*source)
        model = TransferKernelClassifier(source, duration=1e-9, **OPTIONS).fit(target, z)
        return model.decision_function(target)

    f = fitted((X[columns], y))
    np.testing.assert_allclose(f, fitted((X, y)), atol=1e-4)
    if form == "fitted":  # a pair's source is trained for as short a time
        # At the start the kept head says what the source learned, in the target's codes.
        positive = (y == "good") != renamed
        assert np.mean((f > 0) == positive) > 0.7
    with pytest.raises(InputError, match="source lacks 'age' and has 'tax' besides"):
        TransferKernelClassifier((X.rename(columns={"age": "tax"}), y), **OPTIONS).fit(target, z)
    with pytest.warns(UserWarning, match="columns are taken by position"):
        TransferKernelClassifier((X.to_numpy(), y), **OPTIONS).fit(target, z)


@pytest.mark.parametrize("dtype", [*DTYPES, "str"])
def test_types_do_not_matter_for_a_fit(dtype):
    whole = TABLE[NAMES].round().astype(int)
    whole = whole - whole.min() if dtype == "uint16" else whole
    whole, y = (whole % 2 if dtype in ("bool", "boolean") else whole), TABLE.label
    options = dict(richness=0.0, particles=128)
    plain = AdaptiveKernelClassifier(**options).fit(whole, y)
    typed = AdaptiveKernelClassifier(**options).fit(whole.astype(dtype), y.astype(dtype))
    np.testing.assert_allclose(typed.decision_function(whole), plain.decision_function(whole))
    assert [str(int(float(c))) for c in typed.classes_] == ["0", "1"]


def test_source_labels_are_checked_as_targets_are():
    X, y = TABLE[NAMES], TABLE.label
    with pytest.raises(InputError, match="source: Unknown label type: continuous"):
        TransferKernelClassifier((X, RNG.normal(size=N))).fit(X, y)


# -- configuration files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 'two'", "workers='two' cannot be used: input should be a valid integer"),
        ("workers = 0", "workers=0 cannot be used: input should be greater than 0"),
        ("seed = 1.5", "seed=1.5"),
        ("threads = true", "threads=True"),
        ("store = 3", "store=3 cannot be used: input should be a valid string"),
        ("colour = 1", "'colour' is unknown; it takes compute, grid, fixed, store"),
        ("fixed = 3", "fixed=3 cannot be used: input should be a table"),
        ("[fixed]\nn_source = 'many'", "[fixed]: n_source='many'"),
        ("[fixed]\nkind = 'prices'", "kind='prices' cannot be used: input should be 'classes' or"),
        ("[grid]\nsplit = 3", "[grid]: split=3 cannot be used: input should be a valid list"),
        ("[grid]\nsplit = [0, 'a']", "[grid]: split[1]='a'"),
        ("a = " + "[" * 5000, "is no TOML file"),
    ],
)
def test_configuration_files_name_key_value_and_what_is_taken(tmp_path, run, capsys, text, said):
    (tmp_path / "c.toml").write_text('compute = "transfer"\n' + text)
    assert run(f"sweep {tmp_path}/c.toml") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
