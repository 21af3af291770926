"""What a second stage costs per unit of feature motion, against the first.

    ADAPTIK_DATA=... python benchmarks/second_stage.py [fashion | hermite]

Two stages of gradient flow at equal richness, 200 samples each, the second with a fresh or the kept
head, until the loss is 1e-4. Motion is the relative Frobenius change of the feature kernel on the
stage's own samples from its start to its end. "scratch" solves the target alone. The
first of four keys compiles; medians of the other three are printed.
"""

import sys

import numpy as np
from speed import task_of

import adaptik as ak


def pair(data: str) -> tuple[ak.Task, ak.Task]:
    if data == "hermite":
        return ak.tasks.hermite_pair(1, 2, 0.8, n_source=200, n_target=200, dimension=20)
    options = dict(n_train=200, n_test=1000, seed=0)
    return task_of(data, 200, 1000), ak.tasks.load("fashion-mnist", classes=(1, 8), **options)


def stages_of(data: str, richness: float):
    source, target = pair(data)
    first, fresh = ak.Stage(source, richness), ak.Stage(target, richness)
    yield "fresh head", [first, fresh]
    yield "kept head", [first, ak.Stage(target, richness, head="kept")]
    yield "scratch", [fresh]


def main() -> None:
    print("data     gamma  stages      stage  motion  steps  seconds  steps/motion  seconds/motion")
    for data in sys.argv[1:] or ("fashion", "hermite"):
        for richness in (0.3, 1.0, 3.0):
            for name, stages in stages_of(data, richness):
                rows = [measured(stages, key) for key in range(4)][1:]  # the first compiles
                for i, row in enumerate(np.median(rows, axis=0)):
                    motion, steps, seconds = row
                    print(
                        f"{data:8s} {richness:5g}  {name:11s} {i:5d} {motion:7.2f} {steps:6.0f} "
                        f"{seconds:8.2f} {steps / motion:13.0f} {seconds / motion:15.2f}",
                        flush=True,
                    )


def measured(stages: list[ak.Stage], key: int) -> list[tuple[float, int, float]]:
    """Of every stage: motion, steps, seconds of running."""
    starts = [(i, 0.0) for i in range(len(stages))]
    found = ak.solve(stages, ak.TwoLayer("relu"), key=key, record=2, snapshots=starts)
    rows = []
    for i, stage in enumerate(stages):
        before, after = (found.kernel(stage.task.X, stage=i, time=t).value for t in (0.0, None))
        motion = np.linalg.norm(after - before) / np.linalg.norm(before)
        cost = found.records[i].cost
        rows.append((float(motion), cost.steps, cost.run_seconds))
    return rows


if __name__ == "__main__":
    main()
