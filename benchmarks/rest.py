"""Where weight decay brings a flow to rest: Newton steps against flowing on.

    ADAPTIK_DATA=... python benchmarks/rest.py [activation ...]

For each case the stage that ends at rest, and flows of the same particles until the rate has fallen
to 1e-6 and, where they get there, 1e-8 (4096 steps at most): seconds without compilation, steps,
time reached, and by how much predictions at test inputs differ from those at rest (rms). "spread"
is that between replicates at rest, relative to the predictions; "kinks" the share of neurons that
rest on some.
"""

import re
import sys

import numpy as np

import adaptik as ak


def images(dataset: str, classes: tuple[int, int], samples: int) -> ak.Task:
    return ak.tasks.load(dataset, classes=classes, n_train=samples, n_test=200)


def cases():
    clothes = images("fashion-mnist", (0, 9), 50)
    linear, _ = ak.tasks.linear_pair(0.7, n_source=8, n_target=6, dimension=12, n_test=200)
    _, quadratic = ak.tasks.hermite_pair(
        1, 2, 0.5, n_source=4, n_target=40, dimension=6, n_test=200
    )
    for phi in ("relu", "tanh", "erf"):
        yield "Fashion-MNIST 0/9, P = 50", clothes, phi, 0.03
    for phi in ("erf", "relu"):
        yield "linear teacher, P = 8", linear, phi, 0.05
    for phi in ("tanh", "relu"):
        yield "He2, P = 40, D = 6", quadratic, phi, 0.03
    yield "Fashion-MNIST 3/6, P = 20", images("fashion-mnist", (3, 6), 20), "relu", 0.05
    yield "CIFAR-10 1/7, P = 20", images("cifar10", (1, 7), 20), "relu", 0.05


def held(record) -> str:
    """Share of neurons on kinks."""
    found = re.search(r"[0-9.]+%(?= of neurons)", record.cost.method)
    return found[0] if found else ""


def rms(values) -> float:
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    wanted = sys.argv[1:]
    print("| data | phi | until | seconds | steps | time | outcome | difference | spread | kinks |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, task, phi, decay in cases():
        if wanted and phi not in wanted:
            continue
        rest = None
        for until in (None, 1e-6, 1e-8):
            stage = ak.Stage(task, 2.0, weight_decay=decay, rate_tol=until)
            limit = ak.TwoLayer(phi, particles=1024, replicates=4)
            solution = ak.solve([stage], limit, record=2)
            if solution.records[0].cost.run_seconds < 10:  # what a first one does besides counts
                solution = ak.solve([stage], limit, record=2)
            record, f = solution.records[0], solution.states[0].predict(task.X_test)
            rest = f if rest is None else rest
            spread = f"{rms(f.std(0)) / rms(f):.1e}" if until is None else ""
            print(
                f"| {name} | {phi} | {until or 'rest'} | {record.cost.run_seconds:.2f} "
                f"| {record.cost.steps} | {record.duration:.0f} | {record.outcome.name} "
                f"| {rms(f - rest):.1e} | {spread} "
                f"| {held(record)} |",
                flush=True,
            )
            if until and not record.outcome.ok:
                break  # a smaller rate is not reached either


if __name__ == "__main__":
    main()
