"""Where weight decay brings a flow to rest: Newton steps against flowing on.

    ADAPTIK_DATA=... python benchmarks/rest.py

For each case the stage that ends at rest, and flows of the same particles until the rate has fallen
to 1e-6 and 1e-8 (4096 steps at most): seconds without compilation, steps, time reached, and by how
much predictions at test inputs differ from those at rest (rms). "spread" is that between replicates
at rest, relative to the predictions.
"""

import numpy as np

import adaptik as ak


def cases():
    images = ak.tasks.load("fashion-mnist", classes=(0, 9), n_train=50, n_test=200)
    linear, _ = ak.tasks.linear_pair(0.7, n_source=8, n_target=6, dimension=12, n_test=200)
    _, quadratic = ak.tasks.hermite_pair(
        1, 2, 0.5, n_source=4, n_target=40, dimension=6, n_test=200
    )
    for phi in ("relu", "tanh", "erf"):
        yield "Fashion-MNIST 0/9, P = 50", images, phi, 0.03
    yield "linear teacher, P = 8", linear, "erf", 0.05
    yield "He2, P = 40, D = 6", quadratic, "tanh", 0.03
    yield "He2, P = 40, D = 6", quadratic, "relu", 0.03


def rms(values) -> float:
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    print("| data | phi | until | seconds | steps | time | outcome | difference | spread |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, task, phi, decay in cases():
        rest = None
        for until in (None, 1e-6, 1e-8):
            stage = ak.Stage(task, 2.0, weight_decay=decay, rate_tol=until)
            limit = ak.TwoLayer(phi, particles=1024, replicates=4)
            for _ in range(2):  # the first one compiles
                solution = ak.solve([stage], limit, record=2)
            record, f = solution.records[0], solution.states[0].predict(task.X_test)
            rest = f if rest is None else rest
            spread = f"{rms(f.std(0)) / rms(f):.1e}" if until is None else ""
            print(
                f"| {name} | {phi} | {until or 'rest'} | {record.cost.run_seconds:.2f} "
                f"| {record.cost.steps} | {record.duration:.0f} | {record.outcome.name} "
                f"| {rms(f - rest):.1e} | {spread} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
