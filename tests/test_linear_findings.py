"""Claims of our findings on linear networks fail on numbers that say the opposite."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import xarray as xr

from adaptik.experiments import find, verdict
from adaptik.experiments.linear.spikes_that_hurt import CHECKS, FINE


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
