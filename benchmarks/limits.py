"""What each limit costs on one small pair: the table of docs/choose.md.

``python benchmarks/limits.py [NAME ...]``. Digits 1, 4 -> 1, 7, 24 source and 8 target samples, a
source stage of richness 2 and a target stage of richness 1 (networks and deep limits: both for time
5), each solved twice in one process: the first time compiles. Seconds are those of the processor,
summed over cores, so that other programs hardly change them.
"""

import sys
import time

import adaptik as ak

SHORT = ("Reveal", "Ensemble", "DeepLinear", "train")
LIMITS = {
    "Linear": ak.Linear(),
    "DeepLinear, 2 layers": ak.DeepLinear(2),
    "BayesianLinear": ak.BayesianLinear(temperature=0.02),
    "TwoLayer, ReLU, 4 x 256": ak.TwoLayer("relu", particles=256, replicates=4),
    "TwoLayer, ReLU, 4 x 1024": ak.TwoLayer("relu", particles=1024, replicates=4),
    "Reveal, tanh, 2 layers, 4 x 2048": ak.Reveal(2, "tanh", particles=2048, replicates=4),
    "Ensemble, ReLU, 2 layers, 4 x 256": ak.Ensemble(2, "relu", width=256, replicates=4),
    "Bayesian, tanh, 2 x 1024": ak.Bayesian("tanh", 1, 0.02, particles=1024, replicates=2),
}
NETWORKS = {
    "train, ReLU, width 1024, 4 seeds": ak.Network(1024, "relu"),
}


def main(names: list[str]) -> None:
    source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=24, n_target=8)
    print("| what | first time (s) | again (s) | sampling error |", "|---|---|---|---|", sep="\n")
    for name in names or [*LIMITS, *NETWORKS]:
        duration = 5.0 if name.startswith(SHORT) else None
        stages = [ak.Stage(source, 2.0, duration), ak.Stage(target, 1.0, duration)]
        seconds = []
        for _ in range(2):
            began = time.process_time()
            if name in NETWORKS:
                solution = ak.train(stages, NETWORKS[name], seeds=4)
            else:
                solution = ak.solve(stages, LIMITS[name])
            seconds.append(time.process_time() - began)
        error = solution.sampling_error
        print(f"| {name} | {seconds[0]:.3g} | {seconds[1]:.3g} | {error:.2g} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
