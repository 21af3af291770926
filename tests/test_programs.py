"""Compiled programs that are kept on disk: where, which, and what a second process finds."""

import os
import subprocess
import sys
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik import activations
from adaptik.mathematics import losses
from adaptik.mathematics.stepping.clock import compile_clock
from adaptik.system import programs

TASK = ak.Task([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [-1, 1, 1], name="t")
SCRIPT = """
import jax
import adaptik as ak
made = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **about: made.append((event.split("/")[-1], about.get("fun_name")))
)
task = ak.Task([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [-1, 1, 1], name="t")
limit = ak.TwoLayer("erf", particles=16, replicates=2, max_steps=64)
assert jax.config.jax_compilation_cache_dir is None  # importing changes nothing
solution = ak.solve([ak.Stage(task, richness=1.0, duration=0.5)], limit)
print(("jaxpr_trace_duration", "flat") in made)
print(solution.records[-1].predictions["t", "train"][-1].tolist())
"""


def run(home):
    """Whether the stage was traced, and its predictions."""
    chosen = ("JAX_COMPILATION_CACHE_DIR", "ADAPTIK_CACHE", "EQX_ON_ERROR")
    given = {k: v for k, v in os.environ.items() if k not in chosen}
    given |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    traced, predictions = out.stdout.splitlines()
    return traced == "True", predictions


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_second_process_neither_traces_nor_compiles(tmp_path):
    traced, first = run(tmp_path)
    assert traced

    def stages():  # whether smaller programs are kept is a matter of how long they took
        exported = [name for name in files(tmp_path) if name.endswith("-exported")]
        names = [name for name in files(tmp_path) if name.startswith("jit_call")]
        return exported, [name for name in names if name.endswith("-cache")]

    before = stages()
    assert all(before)
    traced, second = run(tmp_path)
    assert not traced
    assert second == first
    assert stages() == before


class Settings:
    """Stands for JAX's."""

    def __init__(self, folder=None, enabled=True):
        self.jax_compilation_cache_dir, self.jax_enable_compilation_cache = folder, enabled

    def update(self, name, value):
        setattr(self, name, value)


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Chooses JAX's settings and ours: ``settings(adaptik, **of_jax)``."""
    programs._prepared.cache_clear()
    place = lambda name: tmp_path / "cache" / name  # noqa: E731
    monkeypatch.setattr(programs.platformdirs, "user_cache_path", place)

    def chosen(ours=None, **of_jax):
        if ours is not None:
            monkeypatch.setenv("ADAPTIK_CACHE", str(ours))
        monkeypatch.setattr(programs, "_jax", Settings(**of_jax))
        return programs._jax

    yield chosen
    programs._prepared.cache_clear()


def test_the_users_cache_folder_is_the_default_and_bounded(settings, tmp_path):
    of_jax = settings()
    folder = programs.keep()
    assert folder == tmp_path / "cache" / "adaptik"
    assert folder.is_dir()
    assert of_jax.jax_compilation_cache_dir == str(folder)
    assert of_jax.jax_compilation_cache_max_size == programs.LARGEST


def test_another_folder_can_be_chosen(settings, tmp_path):
    settings(tmp_path / "here")
    assert programs.keep() == tmp_path / "here"


def test_it_can_be_switched_off(settings, tmp_path):
    of_jax = settings("off")
    assert programs.keep() is None
    settings(enabled=False)
    assert programs.keep() is None
    assert of_jax.jax_compilation_cache_dir is None
    assert not (tmp_path / "cache").exists()


def test_the_users_own_folder_of_jax_is_used_and_its_settings_stay(settings, tmp_path):
    of_jax = settings(folder=str(tmp_path / "own"))
    before = dict(vars(of_jax))
    assert programs.keep() == tmp_path / "own"
    assert vars(of_jax) == before


def test_a_place_that_cannot_be_written_is_no_error(settings, tmp_path):
    (tmp_path / "file").write_text("")
    of_jax = settings(tmp_path / "file")
    assert programs.keep() is None
    assert of_jax.jax_compilation_cache_dir is None


def double(x):
    return [2 * x[0]]


def test_a_damaged_file_is_made_anew(tmp_path):
    x = [jnp.arange(3.0)]
    program = programs._program(tmp_path / "p-exported", double, x)
    np.testing.assert_array_equal(program(x)[0], [0, 2, 4])
    whole = (tmp_path / "p-exported").read_bytes()
    (tmp_path / "p-exported").write_bytes(whole[:-5])
    np.testing.assert_array_equal(
        programs._program(tmp_path / "p-exported", double, x)(x)[0], [0, 2, 4]
    )
    assert (tmp_path / "p-exported").read_bytes()[:32] == whole[:32]


def test_the_programs_not_used_for_longest_are_deleted(tmp_path, monkeypatch):
    for age, name in enumerate(("new-exported", "middle-exported", "old-exported", "users.txt")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(programs, "LARGEST", 200)
    programs._bound(tmp_path)
    assert files(tmp_path) == ["middle-exported", "new-exported", "users.txt"]


def integrate(*args):
    """Stands for a kept function."""


@pytest.mark.parametrize(
    "other",
    [
        (activations.get("erf"), losses.SQUARED, jnp.ones((3, 2)), 4),
        (activations.get("relu"), losses.LOGISTIC, jnp.ones((3, 2)), 4),
        (activations.get("relu"), losses.SQUARED, jnp.ones((2, 3)), 4),
        (activations.get("relu"), losses.SQUARED, jnp.ones((3, 2), jnp.int32), 4),
        (activations.get("relu"), losses.SQUARED, jnp.ones((3, 2)), 5),
    ],
    ids=["activation", "loss", "shape", "precision", "number"],
)
def test_fingerprints_tell_programs_apart(other):
    args = (activations.get("relu"), losses.SQUARED, jnp.zeros((3, 2)), 4)
    same = (activations.get("relu"), losses.SQUARED, jnp.ones((3, 2)), 4)
    mine = programs._fingerprint(integrate, args)
    assert mine is not None
    assert programs._fingerprint(integrate, same) == mine
    assert programs._fingerprint(integrate, other) != mine
    assert programs._fingerprint(run, args) != mine
    with jax.enable_x64(not jax.config.jax_enable_x64):
        assert programs._fingerprint(integrate, args) != mine


def mine(h):
    return jnp.tanh(h)


@pytest.mark.parametrize(
    "foreign",
    [
        activations.from_callable(mine),
        activations.from_callable(lambda h: jnp.tanh(h)),
        replace(activations.get("relu"), derivative=mine),
        mine,
    ],
    ids=["function", "lambda", "derivative", "bare"],
)
def test_what_may_change_without_its_name_is_not_kept(foreign):
    assert programs._fingerprint(integrate, (foreign,)) is None
    assert programs._fingerprint(integrate, (activations.get("tanh").phi,)) is not None


def solved(activation):
    limit = ak.TwoLayer(activation, particles=16, replicates=2)
    return ak.solve([ak.Stage(TASK, richness=1.0, duration=0.5)], limit)


def test_foreign_functions_are_computed_all_the_same():
    ours, theirs = (
        solved(phi).records[-1].predictions["t", "train"][-1]
        for phi in ("tanh", activations.from_callable(mine, "mine"))
    )
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_checks_of_users_still_raise():
    solved("tanh")
    checked = eqx.filter_jit(lambda x: eqx.error_if(x, x < 0, "negative"))
    with pytest.raises(RuntimeError, match="negative"):
        jax.block_until_ready(checked(jnp.asarray(-1.0)))


def test_only_seconds_that_compilation_takes_count_as_such():
    """A program read from disk also tells what it has saved, which was not spent."""
    with compile_clock() as clock:
        for event in ("core/compile/backend_compile", "compilation_cache/compile_time_saved"):
            jax.monitoring.record_event_duration_secs(f"/jax/{event}_sec", 1e-6)
    assert clock.seconds == pytest.approx(1e-6, rel=1e-3)
