import pytest

from adaptik.system import memory
from adaptik.system.errors import InputError, MemoryLimitError

GIB = 2**30


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Writes control-group files and the process's membership."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(memory, "_physical_bytes", lambda: 8 * GIB)

    def write(membership, limits):
        (tmp_path / "membership").write_text(membership)
        for name, limit in limits.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{limit}\n")

    return write


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "max"}, 8),
        ("0::/\n", {"memory.max": 2 * GIB}, 2),
        ("0::/\n", {"memory.max": 64 * GIB}, 8),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": 3 * GIB}, 3),
        ("5:cpu:/\n4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": 4 * GIB}, 4),
        ("5:cpu:/\n", {"memory/memory.limit_in_bytes": 1 * GIB}, 8),
    ],
)
def test_the_tightest_limit_counts(cgroups, membership, limits, expected):
    cgroups(membership, limits)
    assert memory.available_bytes() == expected * GIB


def test_without_control_groups_the_machine_counts(cgroups):
    assert memory.available_bytes() == 8 * GIB  # no membership file was written


def test_this_machine_has_memory():
    assert 2**26 < memory.available_bytes() < 2**50


def test_what_fits_passes_and_what_does_not_is_one_line(cgroups):
    memory.require(8 * GIB, "the solve", "lower particles")
    with pytest.raises(MemoryLimitError) as refusal:
        memory.require(12 * GIB, "the solve", "lower particles=4096")
    message = str(refusal.value)
    assert "\n" not in message
    for part in ("the solve", "12 GiB", "8 GiB", "lower particles=4096"):
        assert part in message
    assert isinstance(refusal.value, InputError)
