"""Maps of the linear theory against the closed forms they show and against simulation."""

import numpy as np
import pytest

from adaptik import linear_theory as lt
from adaptik.linear_theory.diagram import Axis, Diagram, phase_diagram

ALIGNMENT = Axis("alignment", np.linspace(-1, 1, 5))


def test_a_map_shows_the_closed_form():
    axes = ALIGNMENT, Axis("nu_target", np.array([0.2, 0.6]))
    settings = dict(nu_source=0.5, source_noise=0.2, richness=3.0)
    choice = dict(head="kept", finetune="all")
    data = phase_diagram(Diagram(*axes, "gain", settings, **choice), checks=0)
    for nu in axes[1].values:
        gain = lt.transfer_gain(ALIGNMENT.values, nu, **settings, **choice)
        np.testing.assert_allclose(data.value.sel(nu_target=nu), gain, rtol=1e-12)
    change = phase_diagram(Diagram(*axes, "change", settings, **choice), checks=0)
    np.testing.assert_array_equal(change.value, data.loss - data.baseline)


def test_progress_counts_the_map_and_every_simulated_point():
    axes = Axis("alignment", np.linspace(-1, 1, 5)), Axis("nu_target", np.array([0.2, 0.5]))
    told = []
    diagram = Diagram(*axes, head="kept", dimension=40)
    phase_diagram(diagram, checks=2, draws=2, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", ["exponent", "contrast"])
def test_flat_covariances_give_the_isotropic_map(name):
    flat = 0.0 if name == "exponent" else 1.0
    axes = ALIGNMENT, Axis("nu_source", np.array([0.4, 2.0]))
    settings = dict(source_noise=0.2, target_noise=0.1)
    isotropic = phase_diagram(Diagram(*axes, "loss", settings), checks=0)
    same = phase_diagram(Diagram(*axes, "loss", settings | {name: flat}), checks=0)
    np.testing.assert_allclose(same.loss, isotropic.loss, rtol=1e-9)
    np.testing.assert_allclose(same.baseline, isotropic.baseline, rtol=1e-9)


MAPS = (
    Diagram(ALIGNMENT, Axis("nu_target", np.array([0.2, 0.5])), "gain", head="kept"),
    Diagram(Axis("richness", np.array([0.5, 3.0])), Axis("ridge", np.array([0.1, 1.0])), "loss"),
    Diagram(Axis("exponent", np.array([0.5, 1.0])), Axis("time", np.array([1.0, 9.0])), "change"),
    Diagram(
        Axis("nu_source", np.array([0.2, 0.6])), Axis("noise_alignment", np.array([0.2, 0.5])),
        "over_rich",
    ),
)  # fmt: skip


CHOSEN = [
    pytest.param(d, marks=pytest.mark.evidence if d.y.name == "time" else (), id=d.y.name)
    for d in MAPS
]


@pytest.mark.parametrize("diagram", CHOSEN)
def test_simulated_points_lie_on_the_map(diagram):
    data = phase_diagram(diagram, checks=4, draws=12)
    size = np.hypot(data.standard_error, 2 / diagram.dimension)
    z = ((data.simulated - data.theory) / size).values
    assert np.abs(z).max() < 4, z
    assert np.all(data.standard_error < 0.1)


def test_source_noise_on_anisotropic_inputs_makes_a_fresh_head_hurt():
    """Identical tasks; on isotropic inputs the same settings help."""
    axes = Axis("richness", np.array([0.5, 50.0])), Axis("contrast", np.array([1.0, 1000.0]))
    settings = dict(alignment=1.0, source_noise=0.1, nu_source=0.3, nu_target=0.25)
    gain = phase_diagram(Diagram(*axes, "gain", settings), checks=0).value.values
    assert gain[0].min() > 0 and gain[0, 1] > gain[0, 0]
    assert gain[1, 0] > 0 and gain[1, 1] < -0.3
