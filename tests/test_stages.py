import math

import numpy as np
import pytest

from adaptik.system.errors import InputError
from adaptik.tasks import Task
from adaptik.tasks.stages import LOSS_TOL, RATE_TOL, Stage, check_sequence

TASK = Task(np.eye(2), [-1, 1], name="a")
OTHER = Task(np.eye(2)[::-1], [-1, 1], name="b")
WIDE = Task(np.eye(3), [-1, 1, 1], name="wide")
MANY = Task(np.eye(2), np.eye(2), name="many")
REGRESSION = Task(np.eye(2), [0.3, 1.2], name="regression")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(task="digits"), "task"),
        (dict(richness=-1), "richness"),
        (dict(richness=math.nan), "richness"),
        (dict(richness=math.inf), "richness"),
        (dict(richness="rich"), "richness"),
        (dict(weight_decay=-0.1), "weight_decay"),
        (dict(elastic=-1), "elastic"),
        (dict(duration=0), "duration"),
        (dict(duration=-1.0), "duration"),
        (dict(duration=math.nan), "duration"),
        (dict(loss_tol=0), "loss_tol"),
        (dict(rate_tol=-1), "rate_tol"),
        (dict(head="old"), "head"),
        (dict(trains="some"), "trains"),
        (dict(loss="hinge"), "loss"),
        (dict(loss="logistic"), "loss='logistic' does not converge"),
        (dict(loss="logistic", duration=math.inf), "finite duration"),
        (dict(loss="logistic", duration=1, task=REGRESSION), "needs labels"),
        (dict(richness=0, weight_decay=0.1), "richness=0 with weight_decay"),
        (dict(duration=math.inf), "duration=inf"),
        (dict(richness=0, weight_decay=0.1, duration=math.inf), "duration=inf"),
    ],
)
def test_bad_stage_names_its_argument(arguments, names):
    with pytest.raises(InputError, match=names) as refusal:
        Stage(**(dict(task=TASK, richness=1.0) | arguments))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(richness=0),
        dict(richness=0, duration=math.inf),
        dict(trains="readout", duration=math.inf, weight_decay=0.1),
        dict(loss="logistic", duration=3),
        dict(loss="logistic", duration=3, task=MANY),
        dict(weight_decay=0.1),
        dict(richness=np.float64(2.0)),
        dict(richness=np.int64(2)),
        dict(richness=np.float32(0.5)),
    ],
)
def test_meaningful_stages_pass(arguments):
    Stage(**(dict(task=TASK, richness=1.0) | arguments))


def test_what_kind_of_flow_a_stage_is():
    def kinds(**arguments):
        stage = Stage(**(dict(task=TASK) | arguments))
        return stage.is_lazy, stage.has_fixed_kernel, stage.is_linear_flow

    assert kinds(richness=1.0) == (False, False, False)
    assert kinds(richness=0) == (True, True, True)
    assert kinds(richness=0, duration=1, weight_decay=0.1) == (True, False, False)
    assert kinds(richness=0, trains="readout", weight_decay=0.1) == (False, True, True)
    assert kinds(richness=1, trains="readout", loss="logistic", duration=1) == (False, True, False)


def test_tolerances_are_filled_in():
    assert Stage(TASK, 1.0).tolerances == (LOSS_TOL, RATE_TOL)
    assert Stage(TASK, 1.0, weight_decay=0.1).tolerances == (math.inf, RATE_TOL)
    asked = Stage(TASK, 1.0, weight_decay=0.1, loss_tol=0.2, rate_tol=0.3)
    assert asked.tolerances == (0.2, 0.3)


def kept(task=OTHER, richness=1.0, **arguments):
    return Stage(task, richness, head="kept", **arguments)


@pytest.mark.parametrize(
    ("stages", "names"),
    [
        ([], "stages is empty"),
        ([Stage(TASK, 1.0), Stage(WIDE, 1.0)], "stage 1: task 'wide' has 3 features"),
        ([Stage(TASK, 1.0), Stage(Task(np.eye(2), [1, -1], name="a"), 1.0)], "called 'a'"),
        ([kept()], "stage 0: head='kept'"),
        ([Stage(TASK, 1.0), kept(MANY)], "stage 1: head='kept' needs the outputs"),
        ([Stage(TASK, 2.0), kept(weight_decay=0.1)], "stage 1: weight_decay"),
        ([Stage(TASK, 2.0), kept(richness=1.0), kept(weight_decay=0.1)], "stage 2: weight_decay"),
        ([Stage(TASK, 0), kept(richness=0, weight_decay=0.1, duration=1)], "stage 1: weight_decay"),
    ],
)
def test_meaningless_sequences_are_refused(stages, names):
    with pytest.raises(InputError, match=names):
        check_sequence(stages)


@pytest.mark.parametrize(
    "stages",
    [
        [Stage(TASK, 1.0), Stage(OTHER, 0), Stage(TASK, 2.0)],
        [Stage(TASK, 2.0), kept(richness=0)],
        [Stage(TASK, 1.0), Stage(MANY, 1.0)],
        [Stage(TASK, 2.0), kept(richness=2.0, weight_decay=0.1)],
        [Stage(WIDE, 2.0), Stage(WIDE, 1.0), kept(WIDE, weight_decay=0.1)],
    ],
)
def test_meaningful_sequences_pass(stages):
    check_sequence(stages)
