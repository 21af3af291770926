"""Claims of our findings on linear networks fail on numbers that say the opposite."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import xarray as xr

from adaptik.experiments import find, verdict
from adaptik.experiments.linear.spikes_that_hurt import CHECKS, FINE
from adaptik.experiments.linear.target_wants_longer_source import SPAN


def planted(ends, *, lowest=-1e-8, ratio=1.0):
    """Losses that start at 1, dip to 0.9 in the middle and end where ``ends`` says."""
    config = find("spikes_that_hurt").load().PRESETS["quick"]

    def curve(x, end):
        middle = np.median(x)
        return np.where(x < middle, 1 - 0.1 * x / middle, np.where(x > middle, end, 0.9))

    def stacked(x):
        return np.array([curve(x, end) for end in ends])

    levels, points = ("crosstalk", "richness"), ("crosstalk", "check")
    flows = (len(config.depth), config.flows, len(config.flow_richness))
    dims = ("depth", "flow", "flow_richness")
    return xr.Dataset(
        {
            "value": (levels, stacked(FINE)),
            "theory": (points, stacked(CHECKS)),
            "simulated": (points, stacked(CHECKS) + 0.01),
            "standard_error": (points, np.full((len(ends), len(CHECKS)), 0.01)),
            "lowest": (dims, np.full(flows, lowest)),
            "largest": (dims, np.ones(flows)),
            "ratio": (dims, np.full(flows, ratio)),
        },
        coords={
            "crosstalk": list(config.crosstalk),
            "richness": FINE,
            "check": CHECKS,
            "depth": list(config.depth),
            "flow_richness": list(config.flow_richness),
        },
        attrs={"configuration": json.dumps(asdict(config))},
    )


def test_the_claims_on_spikes_fail_where_they_are_reversed():
    finding = find("spikes_that_hurt").load()
    good = planted([0.5, 0.6, 0.8, 1.2, 1.4])
    claims = finding.check(good)
    assert verdict.overall(claims) == "reproduced"
    assert [round(c.value, 2) for c in claims[:2]] == [0.4, 0.5]
    agreement = finding.agreement(good)
    assert agreement.within == agreement.points == 45
    assert agreement.root_mean_square == pytest.approx(1, abs=0.05)
    harmless = [c.word for c in finding.check(planted([0.5, 0.6, 0.8, 0.8, 0.8]))]
    assert harmless == ["differs", "not reproduced", *["reproduced"] * 3]
    harmful = [c.word for c in finding.check(planted([0.5, 0.6, 1.1, 1.2, 1.4]))]
    assert harmful[2] == "differs"
    reached = [
        c.word for c in finding.check(planted([0.5] * 3 + [1.2] * 2, lowest=-0.1, ratio=1.2))
    ]
    assert reached == [*["reproduced"] * 3, *["differs"] * 2]
    far = good.assign(simulated=good.simulated + 0.05)
    assert finding.agreement(far).within == 0 and len(finding.agreement(far).outliers) == 45


def stopped(before, after, best, *, longer=2.0, ridge=0.5, seed=0):
    """Losses of target and source at the source's best time, at the end and at the target's."""
    name = "target_wants_longer_source"
    config = find(name).load().PRESETS["quick"]
    rng, checks = np.random.default_rng(seed), len(SPAN) + 2
    theory = {"target": np.full((3, checks), 0.5), "source": np.full((3, checks), 0.5)}
    for what in theory:
        theory[what][:, len(SPAN)], theory[what][:, len(SPAN) - 1] = before, after
        theory[what][:, -1] = best
    theory["source"] = 1 - theory["target"]  # what is good for one is bad for the other
    data = {"check_time": (("richness", "check"), np.ones((3, checks)))}
    for what, mean in theory.items():
        noise = 0.01 * rng.standard_normal((3, config.draws, checks))
        data[f"theory_{what}"] = (("richness", "check"), mean)
        data[f"simulated_{what}"] = (("richness", "draw", "check"), mean[:, None] + noise)
    levels = (len(config.sources), 4)
    for what, value in dict(longer=longer, ridge=ridge).items():
        data[what] = (("nu", "gamma"), np.full(levels, value))
    attrs = {"configuration": json.dumps(asdict(config))}
    return xr.Dataset(data, coords={"richness": list(config.richness)}, attrs=attrs)


def test_the_claims_on_longer_sources_fail_where_they_are_reversed():
    finding = find("target_wants_longer_source").load()
    good = stopped(0.5, 0.4, 0.3)
    claims = finding.check(good)
    assert [c.word for c in claims] == ["reproduced"] * 5
    assert [round(c.value, 2) for c in claims[:3]] == [0.17, 0.2, 0.25]
    assert all(abs(c.network - c.value) < 0.02 for c in claims[:3])
    agreement = finding.agreement(good)
    assert agreement.points == 48 and agreement.within >= 47
    bad = finding.check(stopped(0.4, 0.5, 0.6, longer=0.9, ridge=1.1))
    assert [c.word for c in bad] == ["differs"] * 5
    far = good.assign(simulated_target=good.simulated_target + 0.1)
    assert finding.agreement(far).within <= 25
