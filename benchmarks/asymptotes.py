"""Do the end losses of figure 3a meet as target data grow?

    python benchmarks/asymptotes.py

The degrees, richness and source of the finding `easy_before_hard` with other numbers of target
samples; infinite width alone, so that no network has to be trained. Target losses at the end of a
jointly rich target stage, from scratch and after the source with a fresh head.
"""

from dataclasses import replace

import numpy as np

import adaptik as ak
from adaptik.experiments import find

N_TARGET = (20, 80, 320)
DRAWS = 3


def main() -> None:
    config = find("fig3a").load().PRESETS["quick"]
    limit = ak.TwoLayer(config.activation, particles=1024, replicates=2)
    print(f"He1 -> He2, D = {config.dimension}, P1 = {config.n_source}, {DRAWS} draws")
    for n_target in N_TARGET:
        losses = np.array([ends(config, limit, n_target, draw) for draw in range(DRAWS)])
        gap = losses[:, 0] - losses[:, 1]
        cells = [f"{x.mean():.3f} ± {x.std(ddof=1) / len(x) ** 0.5:.3f}" for x in (*losses.T, gap)]
        print(f"P2 = {n_target}: scratch {cells[0]}, pretrained {cells[1]}, gap {cells[2]}")


def ends(config, limit, n_target: int, draw: int) -> tuple[float, float]:
    """Final target losses from scratch and after the source."""
    degrees = config.source_degree, config.target_degree
    source, target = replace(config, n_target=n_target).pair(*degrees, draw)
    first = ak.Stage(source, config.richness, duration=config.source_duration)
    last = ak.Stage(target, config.richness, duration=config.target_duration)
    scratch, after = (ak.solve(stages, limit, key=draw) for stages in ([last], [first, last]))
    return float(scratch.loss(target)), float(after.loss(target))


if __name__ == "__main__":
    main()
