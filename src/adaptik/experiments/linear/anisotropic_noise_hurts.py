"""Beyond the paper: with anisotropic inputs and label noise in the source, transfer can hurt."""

from typing import Any

import xarray as xr

from ..verdict import Claim
from . import closed_forms
from .closed_forms import agreement, caption, compute, draw

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = closed_forms.presets("anisotropic", draws=40)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Where transfer of identical tasks hurts."""
    found = closed_forms.panel(dataset, 0)

    def lowest(statement: str, contrast: float, **settings: Any) -> Claim:
        """On the lowest gain, and its simulated point, chosen by theory."""
        gain = float(found.value.min("richness").sel(contrast=contrast))
        here = found.isel(check=found.check_y.values == contrast)
        at = here.isel(check=int(here.theory.values.argmin()))
        simulated = float(at.simulated), float(at.standard_error)
        return closed_forms.simulated_claim(statement, gain, *simulated, bound=-1e-3, **settings)

    said = "with variances 1 : {:g} the gain becomes negative (lowest gain)"
    hurt = (lowest(said.format(contrast), contrast, sense=-1) for contrast in (100.0, 1000.0))
    return (*hurt, lowest("with isotropic inputs it does not (lowest gain)", 1.0))
