"""Beyond the paper: with anisotropic inputs and label noise in the source, transfer can hurt."""

from typing import Any

import xarray as xr

from . import linear_curves
from .linear_curves import agreement, caption, compute, draw
from .verdict import Claim

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = linear_curves.presets("anisotropic", draws=40)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Where transfer of identical tasks hurts."""
    found = linear_curves.panel(dataset, 0)
    lowest = found.value.min("richness")
    claims = [
        Claim(
            f"with variances 1 : {contrast:g} the gain becomes negative (lowest gain)",
            float(lowest.sel(contrast=contrast)), 0.0, sense=-1, bound=-1e-3,
            **_simulated(found, contrast),
        )
        for contrast in (100.0, 1000.0)
    ]  # fmt: skip
    isotropic = Claim(
        "with isotropic inputs it does not (lowest gain)", float(lowest.sel(contrast=1.0)), 0.0,
        bound=-1e-3, **_simulated(found, 1.0),
    )  # fmt: skip
    return (*claims, isotropic)


def _simulated(found: xr.Dataset, contrast: float) -> dict[str, Any]:
    """The lowest gain's simulated point, chosen by theory."""
    here = found.isel(check=found.check_y.values == contrast)
    at = here.isel(check=int(here.theory.values.argmin()))
    return {
        "network": float(at.simulated),
        "network_standard_error": float(at.standard_error),
        "evidence": "simulations",
    }
