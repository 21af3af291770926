"""A person's own archives (.npz): broken members, encryption, size, damage."""

import io
import zipfile

import numpy as np
import pytest

import adaptik as ak
from adaptik.system.errors import InputError
from adaptik.tasks import load

RNG = np.random.default_rng(0)


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def saved(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
Y = saved(np.arange(4) % 2)
BROKEN = {
    "huge": (npy(HUGE % "1000000000000, 3"), "declares shape"),
    "huger than integers": (npy(HUGE % f"{10**30}, {10**30}"), "declares shape"),
    "negative": (npy(HUGE % "-4, 3", bytes(96)), "is no array"),
    "too short": (npy(HUGE % "4, 3", bytes(80)), "declares shape"),
    "scalar": (saved(np.float64(3)), "single value"),
    "no rows": (saved(np.zeros((0, 3))), "is empty"),
    "no columns": (saved(np.zeros((4, 0))), "is empty"),
    "objects": (saved(np.array([[{}]] * 4), allow_pickle=True), "without pickles"),
    "dates": (saved(np.zeros((4, 3), "M8[s]")), "save it as numbers"),
    "records": (saved(np.zeros((4, 3), [("a", float)])), "save it as numbers"),
    "complex": (saved(np.zeros((4, 3), complex)), "save it as numbers"),
    "no array": (b"hello", "is no array"),
    "nothing": (b"", "is no array"),
    "broken header": (npy("{'descr': ((((("), "is no array"),
    "header is a list": (npy("[1, 2]"), "is no array"),
    "version": (b"\x93NUMPY\x09\x00" + npy(HUGE % "4, 3")[8:], "is no array"),
    "text": (saved(np.array([["a"]] * 4)), "must be numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_members_are_refused_before_memory_is_taken(tmp_path, case):
    member, said = BROKEN[case]
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("X.npy", member)
        archive.writestr("y.npy", Y)
    with pytest.raises(InputError, match=said) as refusal:
        load(tmp_path / "bad.npz")
    assert "\n" not in str(refusal.value) and "bad.npz" in str(refusal.value)


def archive_of(**options) -> bytes:
    stream = io.BytesIO()
    save = np.savez_compressed if options.pop("compressed", False) else np.savez
    save(stream, **options)
    return stream.getvalue()


NAMES = np.array(["area", "rooms", "age"])
ARRAYS = dict(X=RNG.normal(size=(10, 3)), y=np.arange(10) % 2, columns=NAMES)


@pytest.mark.parametrize("bits", [(8, 1, "encrypted"), (10, 99, "compressed by method 99")])
def test_encryption_and_unknown_compression_are_refused(tmp_path, bits):
    offset, value, said = bits  # in the central directory's first record
    content = bytearray(archive_of(**ARRAYS))
    content[content.index(b"PK\x01\x02") + offset] = value
    (tmp_path / "odd.npz").write_bytes(content)
    with pytest.raises(InputError, match=said):
        load(tmp_path / "odd.npz")


def test_a_member_larger_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("adaptik.system.memory.available_bytes", lambda: 100)
    (tmp_path / "big.npz").write_bytes(archive_of(**ARRAYS))
    with pytest.raises(ak.MemoryLimitError, match="GiB"):
        load(tmp_path / "big.npz")


def test_truncated_and_flipped_archives_are_refused_or_right(tmp_path):
    rng, refused = np.random.default_rng(1), 0
    contents = [archive_of(**ARRAYS), archive_of(compressed=True, **ARRAYS)]
    path = tmp_path / "mine.npz"
    path.write_bytes(contents[0])
    right = load(path)
    for k in range(200):
        content = bytearray(contents[k % 2])
        if k % 4 < 2:
            del content[rng.integers(len(content)) :]
        else:
            for place in rng.integers(len(content), size=rng.integers(1, 4)):
                content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            task = load(path)
        except InputError as refusal:
            assert "\n" not in str(refusal)
            refused += 1
        else:
            for part in ("X", "y", "X_test", "y_test", "features"):
                assert np.array_equal(getattr(task, part), getattr(right, part))
    assert refused > 150  # flips of dates and the like change nothing
