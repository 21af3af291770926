"""What changes while a study trains: kernels and preactivations at moments, curves over time.

All of it is seen on the first split of the data, as the pictures of a report are.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..solution import Solution, record_grid
from ..tasks import Task
from .recorded import Curve, Moment

if TYPE_CHECKING:
    import xarray as xr

SAMPLES = 100  # of the target's training data, at most
GROUPS = 10  # classes whose preactivations are told apart, at most
BINS = 80
# Times that losses are recorded at anyway: whole states are kept there without further steps.
WATCHED: tuple[float, ...] = tuple(record_grid(None, 32)[:14].tolist())


def moments(
    solution: Solution, stage: int, target: Task, source_richness: float, target_richness: Any
) -> Iterator[Moment]:
    """A stage of a solution at the times that it has snapshots of, and at its end.

    Parameters
    ----------
    solution
        With snapshots of ``stage``.
    stage
        0 is the source stage.
    target
        On whose training samples, sorted by label, kernels and preactivations are seen.
    source_richness, target_richness
        Of the row, the latter ``None`` in the source stage.

    Yields
    ------
    Moment
        Densities of one stage share their bins: they span all but a thousandth of what the
        preactivations are at its start and its end.
    """
    X, labels = _seen(target)
    groups = tuple(dict.fromkeys(labels))
    if not target.classes or len(groups) > GROUPS:
        groups, of = ("all samples",), np.zeros(len(X), int)
    else:
        of = np.array([groups.index(label) for label in labels])
    end = solution.records[stage].duration
    times = sorted(t for at, t in solution.snapshots if at == stage and t < end)
    first = solution.preactivations(X, stage, times[0] if times else None)
    both = np.abs([first, solution.preactivations(X, stage)])
    largest = float(np.quantile(both, 0.999))
    edges = np.linspace(-largest, largest, BINS + 1)
    for time in (*times, None):
        h = solution.preactivations(X, stage, time)
        density = [_density(h[..., of == group], edges) for group in range(len(groups))]
        yield Moment(
            "target" if stage else "source",
            end if time is None else time,
            source_richness,
            target_richness,
            np.asarray(solution.kernel(X, stage=stage, time=time), np.float32),
            labels,
            groups,
            (edges[1:] + edges[:-1]) / 2,
            np.array(density),
        )


def _seen(target: Task) -> tuple[Float[np.ndarray, "n D"], tuple[str, ...]]:
    """Training samples sorted by label, evenly thinned, and the label of each."""
    order = target.by_label
    if len(order) > SAMPLES:
        order = order[np.linspace(0, len(order) - 1, SAMPLES).round().astype(int)]
    if not target.classes:
        return target.X[order], tuple(f"{value:.3g}" for value in target.y[order, 0])
    return target.X[order], tuple(target.classes[c] for c in target.codes[order])


def _density(h: np.ndarray, edges: np.ndarray) -> Float[np.ndarray, " bins"]:
    """Histogram of unit area, of what lies outside the edges too."""
    return np.histogram(h, edges)[0] / (h.size * np.diff(edges))


def to_xarray(curves: tuple[Curve, ...], seen: tuple[Moment, ...]) -> "xr.Dataset":
    """Curves and moments of a study with labelled axes.

    Returns
    -------
    xr.Dataset
        ``curve_times``, ``curve_loss`` and ``curve_standard_error`` have dimensions ``(curve,
        point)``, padded with NaN, and for regression ``curve_relative_loss`` and
        ``curve_relative_error``; what a curve is of stands in the coordinates ``curve_origin``,
        ``curve_mode``, ``curve_source_richness``, ``curve_target_richness``, ``curve_stage`` and
        ``curve_task``. ``kernel`` has dimensions ``(moment, sample, partner)``, ``density``
        ``(moment, group, bin)`` and ``preactivation`` ``(moment, bin)``, with the coordinates
        ``moment_stage``, ``moment_time``, ``moment_source_richness``, ``moment_target_richness``,
        ``label`` of every sample and the names of groups. Missing richness is NaN.
    """
    import xarray as xr

    found: dict[str, Any] = {}
    about = ("origin", "mode", "stage", "task", "source_richness", "target_richness")
    longest = max((len(c.times) for c in curves), default=0)
    for name in ("times", "loss", "standard_error", "relative_loss", "relative_error"):
        arrays = [getattr(c, name, None) for c in curves]
        if any(a is not None for a in arrays):
            padded = np.full((len(curves), longest), np.nan)
            for row, values in zip(padded, arrays, strict=True):
                if values is not None:
                    row[: len(values)] = values
            found[f"curve_{name}"] = (("curve", "point"), padded)
    where = {f"curve_{name}": ("curve", _column(curves, name)) for name in about if curves}
    if seen:
        found |= {
            "kernel": (("moment", "sample", "partner"), np.stack([m.kernel for m in seen])),
            "density": (("moment", "group", "bin"), np.stack([m.density for m in seen])),
            "preactivation": (("moment", "bin"), np.stack([m.preactivation for m in seen])),
        }
        named = ("stage", "time", "source_richness", "target_richness")
        where |= {f"moment_{name}": ("moment", _column(seen, name)) for name in named}
        where |= {
            "label": ("sample", np.array(seen[0].labels, str)),
            "group": np.array(seen[0].groups, str),
        }
    return xr.Dataset(found, where)


def _column(items: tuple[Any, ...], name: str) -> np.ndarray:
    values = [getattr(item, name) for item in items]
    if any(isinstance(v, str) for v in values):
        return np.array(values, str)
    return np.array([np.nan if v is None else v for v in values], float)
