"""solve(tol=): limits are refined until predictions are as precise as asked."""

import numpy as np
import pytest

import adaptik as ak
from adaptik.system.errors import InputError

TASK, OTHER = ak.tasks.hermite_pair(1, 2, 0.5, n_source=8, n_target=4, dimension=6, n_test=20)
STAGES = [ak.Stage(TASK, 2.0, duration=2.0)]
COARSE = ak.TwoLayer("relu", particles=32, replicates=4)


def test_particles_are_added_until_the_tolerance_is_met():
    coarse = ak.solve(STAGES, COARSE, record=2)
    tol = coarse.sampling_error / 3
    fine = ak.solve(STAGES, COARSE, record=2, tol=tol)
    assert fine.sampling_error <= tol
    for split in ("train", "test"):
        members = fine.predictions(TASK, split)[-1]
        assert np.sqrt(np.mean(members.var(0, ddof=1) / len(members))) <= tol


@pytest.mark.evidence
def test_an_open_number_of_particles_follows_from_the_tolerance():
    few = ak.solve(STAGES, ak.TwoLayer("relu"), record=2, tol=0.1, observe=[OTHER])
    assert few.states[-1].particles.w.shape[1] == 256
    tol = few.sampling_error / 2
    more = ak.solve(STAGES, ak.TwoLayer("relu"), record=2, tol=tol, observe=[OTHER])
    assert 2 * 256 < more.states[-1].particles.w.shape[1] <= 6 * 256
    assert more.sampling_error <= tol


def test_the_first_try_has_room_for_all_inputs():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 400)), rng.standard_normal((300, 1))
    task = ak.Task(X, y, name="wide")
    stages = [ak.Stage(task, 0.5, duration=0.1)]
    solution = ak.solve(stages, ak.TwoLayer("relu"), record=2, tol=0.5)
    assert solution.states[-1].particles.w.shape[1] == 512
    with pytest.raises(InputError, match="stages is empty"):
        ak.solve([], ak.TwoLayer("relu"), tol=0.5)


def test_exact_limits_have_no_sampling_error():
    solution = ak.solve(STAGES, ak.Linear(), record=2, tol=1e-3)
    assert solution.sampling_error == 0


@pytest.mark.parametrize(
    ("limit", "options", "message"),
    [
        (COARSE, dict(tol=0.0), "tol must lie between 0 and 1"),
        (ak.TwoLayer("relu", particles=32, replicates=1), dict(tol=0.1), "at least 2"),
    ],
)
def test_tolerances_without_a_meaning_are_refused(limit, options, message):
    with pytest.raises(InputError, match=message):
        ak.solve(STAGES, limit, record=2, **options)


def test_earlier_stages_cannot_be_refined():
    before = ak.solve(STAGES, COARSE, record=2)
    with pytest.raises(InputError, match="tol cannot refine"):
        ak.solve(STAGES, COARSE, record=2, after=before, tol=0.1)
