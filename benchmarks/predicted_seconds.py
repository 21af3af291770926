"""How well the time of a deep study is predicted: seconds taken by rich stages over predicted ones.

    python benchmarks/predicted_seconds.py

Digits, source and target stages until they converge, as in ``adaptik transfer --depth``, without
compilation. The number of evaluations that a stage is predicted to need was set on the first four
cases; the last two check it.
"""

import adaptik as ak

CASES = (
    (2, "relu", 256, 4, 20, 10, 1.0),
    (2, "tanh", 512, 2, 60, 20, 0.5),
    (3, "relu", 384, 3, 40, 10, 2.0),
    (3, "gelu", 256, 4, 100, 30, 1.0),
    (2, "gelu", 512, 3, 30, 30, 2.0),
    (4, "tanh", 256, 2, 20, 20, 1.0),
)


def main() -> None:
    print("| L | activation | width | replicates | P1, P2 | gamma | predicted | taken | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for depth, phi, width, replicates, n_source, n_target, richness in CASES:
        source, target = ak.tasks.load_pair(
            "digits:3,5", "digits:8,9", n_source=n_source, n_target=n_target, n_test=100
        )
        limit = ak.Ensemble(depth, phi, width, replicates)
        stages = [ak.Stage(source, richness), ak.Stage(target, richness)]
        predicted = sum(limit.predicted_seconds(stage) for stage in stages)
        done = ak.solve(stages, limit, record=2)
        taken = sum(record.cost.run_seconds for record in done.records)
        cells = (depth, phi, width, replicates, f"{n_source}, {n_target}", richness)
        numbers = (f"{predicted:.0f} s", f"{taken:.0f} s", f"{taken / predicted:.2f}")
        print("| " + " | ".join(map(str, cells + numbers)) + " |", done.outcome.value, flush=True)


if __name__ == "__main__":
    main()
