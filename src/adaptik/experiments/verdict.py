"""Does a claim hold in our computation? Numbers first, words from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats

from ..solution.estimate import deviate, rounded

Word = Literal["reproduced", "not reproduced", "differs"]
CONFIDENCE = 0.975  # one-sided; 2 standard errors where they are well known
APART = 3.0  # standard errors between theory and networks that count as different
REQUIRED = 0.95  # share of points that must not
Sides = tuple[xr.DataArray, xr.DataArray]  # theory and networks


@dataclass(frozen=True)
class Claim:
    """One statement that a number decides.

    Attributes
    ----------
    statement
        What is claimed.
    value, standard_error
        The number, by theory.
    freedom
        Degrees of freedom of the standard error (infinite where it is known well).
    bound, sense
        The claim is ``value > bound`` (sense 1) or ``value < bound`` (sense -1).
    unit
        Of the number; ``"%"`` prints it times 100.
    network, network_standard_error
        The same number from finite networks, or from what ``evidence`` names, where there is any.
    """

    statement: str
    value: float
    standard_error: float
    freedom: float = np.inf
    bound: float = 0.0
    sense: Literal[1, -1] = 1
    unit: str = "%"
    network: float | None = None
    network_standard_error: float | None = None
    evidence: str = "networks"

    @property
    def word(self) -> Word:
        """Reproduced, or differs, if the bound is cleared with confidence; else not reproduced.

        Examples
        --------
        >>> Claim("it falls", 0.3, 0.02).word, Claim("it falls", -0.3, 0.02).word
        ('reproduced', 'differs')
        >>> Claim("it falls", 0.03, 0.02).word
        'not reproduced'
        """
        margin = self.sense * (self.value - self.bound)
        clear = stats.t.ppf(CONFIDENCE, self.freedom) * self.standard_error
        if margin > clear:
            return "reproduced"
        return "differs" if margin < -clear else "not reproduced"

    @property
    def sentence(self) -> str:
        """The statement with yes, no or undecided, and the numbers.

        Examples
        --------
        >>> Claim("pretraining lowers the loss", 0.31, 0.02).sentence
        'pretraining lowers the loss: yes, by 31 ± 2 %'
        """
        answer = {"reproduced": "yes", "differs": "no", "not reproduced": "undecided"}[self.word]
        by = ", by" if self.bound == 0 and self.sense == 1 else ","
        number = _number(self.value, self.standard_error, self.unit)
        text = f"{self.statement}: {answer}{by} {number}"
        if self.network is not None and np.isfinite(self.network):
            error = np.nan if self.network_standard_error is None else self.network_standard_error
            text += f" ({self.evidence}: {_number(self.network, error, self.unit)})"
        return text


@dataclass(frozen=True)
class Agreement:
    """How far theory and networks are apart over all points of a figure.

    Attributes
    ----------
    points, within
        Points compared, and those at most 3 standard errors apart.
    outliers
        The others, in words.
    root_mean_square
        Of the differences in standard errors; about 1 where only noise is left.
    evidence
        What was compared with theory.
    """

    points: int
    within: int
    outliers: tuple[str, ...]
    root_mean_square: float
    evidence: str = "networks"

    @property
    def holds(self) -> bool:
        """Whether at least 95 % of the points agree."""
        return self.within >= REQUIRED * self.points

    @property
    def sentence(self) -> str:
        if not self.points:
            return f"no point was compared with {self.evidence}"
        return (
            f"theory and {self.evidence} agree within {APART:g} standard errors at "
            f"{self.within} of {self.points} points"
        )


def overall(claims: Sequence[Claim]) -> Word:
    """Reproduced if every claim is; differs if one is contradicted."""
    words = {claim.word for claim in claims}
    if "differs" in words:
        return "differs"
    return "not reproduced" if "not reproduced" in words or not words else "reproduced"


def agreement(dataset: xr.Dataset) -> Agreement:
    """Compare every variable ``theory_x`` with ``network_x``.

    Parameters
    ----------
    dataset
        Dimensions ``draw`` (both sides share the data) and ``replicate`` (theory) or ``seed``
        (networks); all others are points.
    """
    parts, outliers = [], []
    for name in map(str, dataset.data_vars):
        if not name.startswith("theory_"):
            continue
        rest = name.removeprefix("theory_")
        theory = dataset[name].transpose("draw", "replicate", ...)
        networks = dataset[f"network_{rest}"].transpose("draw", "seed", *theory.dims[2:])
        apart = deviate(networks.values, theory.values)
        parts.append(apart.ravel())
        for place in np.argwhere(np.abs(apart) > APART):
            at = [
                f"{d} = {_label(theory[d].values[i])}"
                for d, i in zip(theory.dims[2:], place, strict=True)
            ]
            outliers.append(f"{rest}, {', '.join(at)}: {apart[tuple(place)]:+.1f} s.e.")
    return of_deviates(np.concatenate(parts) if parts else np.empty(0), outliers)


def of_deviates(
    apart: Float[np.ndarray, " points"], outliers: Sequence[str], evidence: str = "networks"
) -> Agreement:
    """Count differences in standard errors; NaN where nothing could differ."""
    known = apart[~np.isnan(apart)]
    within = int((np.abs(known) <= APART).sum())
    finite = known[np.isfinite(known)]
    rms = float(np.sqrt(np.mean(finite**2))) if finite.size else np.nan
    return Agreement(len(known), within, tuple(outliers), rms, evidence)


def over_draws(
    statement: str,
    theory: Float[np.ndarray, " draws"],
    network: Float[np.ndarray, " draws"] | None = None,
    **settings,
) -> Claim:
    """A claim about a mean over draws of the data, with the error of that mean."""
    error = theory.std(ddof=1) / np.sqrt(len(theory)) if len(theory) > 1 else np.nan
    if network is not None:
        settings["network"] = float(network.mean())
        if len(network) > 1:
            settings["network_standard_error"] = float(network.std(ddof=1) / np.sqrt(len(network)))
    freedom = max(len(theory) - 1, 1)
    return Claim(statement, float(theory.mean()), float(error), freedom, **settings)


def sides(dataset: xr.Dataset, what: str, **at: Any) -> Sides:
    """``theory_{what}`` and ``network_{what}`` at one point of some axes."""
    one = dataset.sel(at)
    return one[f"theory_{what}"], one[f"network_{what}"]


def means(dataset: xr.Dataset, what: str, **at: Any) -> list[np.ndarray]:
    """:func:`sides` for every draw, over which comes first: means of the members."""
    theory, network = sides(dataset, what, **at)
    both = theory.mean("replicate"), network.mean("seed")
    return [side.transpose("draw", ...).values for side in both]


def at_best(
    theory: Float[np.ndarray, "draws levels"], network: Float[np.ndarray, "draws levels"]
) -> list[Float[np.ndarray, " draws"]]:
    """Losses at the level where theory's mean over the other draws is smallest.

    A level that is chosen on the losses that it is judged by would look too good.

    Examples
    --------
    >>> losses = np.array([[0.1, 0.3], [0.5, 0.2], [0.6, 0.3]])
    >>> at_best(losses, losses)[0].tolist()  # of the first draw level 0 is best, of others 1
    [0.3, 0.2, 0.3]
    """
    draws = np.arange(len(theory))
    others = [np.delete(theory, d, 0) if len(theory) > 1 else theory for d in draws]
    best = [int(o.mean(0).argmin()) for o in others]
    return [side[draws, best] for side in (theory, network)]


def gains_of_best(
    losses: Sequence[Float[np.ndarray, "draws levels"]], level: int
) -> list[Float[np.ndarray, " draws"]]:
    """By how much losses :func:`at_best` are below those at ``level``, relative to them."""
    return [1 - low / side[:, level] for low, side in zip(at_best(*losses), losses, strict=True)]


def ratio_over_draws(statement: str, upper: Sides, lower: Sides, **settings) -> Claim:
    """The claim that losses ``lower`` lie below losses ``upper``: 1 - mean(lower)/mean(upper).

    Both are pairs (theory, networks) with dimensions ``draw`` and members. The error is that over
    draws, linearised around the means.
    """
    gains = []
    for above, below in zip(upper, lower, strict=True):
        members = [d for d in above.dims if d != "draw"]
        a, b = (x.mean(members).values for x in (above, below))
        ratio = b.mean() / a.mean()
        gains.append(1 - ratio - (b - ratio * a) / a.mean())
    return over_draws(statement, *gains, **settings)


def _label(value) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _number(value: float, error: float, unit: str) -> str:
    if not np.isfinite(error) or error == 0:
        return f"{100 * value if unit == '%' else value:.3g} {unit}".rstrip()
    return rounded(value, error, 1, unit)
