"""Limits beside trained networks of increasing width."""

from dataclasses import replace

import numpy as np

import adaptik as ak


def against_networks(limit, network: ak.Network, widths, stages):
    """Of every width: squared differences of single networks, and the mean one in its own s.e."""
    X, spread = stages[-1].task.X_test, stages[-1].task.y_test.std()
    f = ak.solve(stages, limit, record=2).predict(X)
    assert np.std(f.value) > 0.1
    found = []
    for width in widths:
        trained = ak.train(stages, replace(network, width=width), seeds=8, record=2)
        each = trained.states[-1].predict(X)[..., 0] - f.value
        gap = f - trained.predict(X)
        size = float(np.mean(gap.value**2) / np.mean(gap.standard_error**2))
        assert np.mean(gap.standard_error**2) < (0.05 * spread) ** 2
        found.append((np.mean(each**2, axis=1), size))
    return found
