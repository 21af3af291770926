"""How all figures look: palette, markers, sizes of letters.

Colours of unordered series are those of Okabe and Ito, which colour-blind readers tell apart;
ordered levels have shades of viridis.
"""

from typing import Any

import matplotlib as mpl
import numpy as np

GREY = "0.45"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def shades(count: int) -> list[Any]:
    """Colours for ordered levels, the last one still dark enough on white."""
    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def look(i: int) -> dict[str, Any]:
    """Colour and marker of unordered series number ``i``."""
    return {"color": OKABE_ITO[i % len(OKABE_ITO)], "marker": MARKERS[i % len(MARKERS)]}
