"""A number (or array) together with its standard error."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with its standard error; differences add errors in quadrature.

    Attributes
    ----------
    value, standard_error
        Arrays of one shape. The standard error is 0 where the value is exact and NaN where
        it is unknown (one member only).

    Examples
    --------
    >>> a, b = Estimate(1.0, 0.3), Estimate(0.5, 0.4)
    >>> a - b
    0.5 ± 0.5
    >>> float((a - b).in_standard_errors)
    1.0
    >>> Estimate.over_members([1.0, 2.0, 3.0])
    2 ± 0.58
    """

    value: Float[np.ndarray, "..."] | float
    standard_error: Float[np.ndarray, "..."] | float

    @classmethod
    def over_members(cls, samples: Float[np.ndarray, "members ..."]) -> "Estimate":
        """Mean and standard error of the mean over the leading axis."""
        samples = np.asarray(samples, float)
        n = samples.shape[0]
        if n == 1:
            return cls(samples[0], np.full(samples.shape[1:], np.nan))
        return cls(samples.mean(0), samples.std(0, ddof=1) / np.sqrt(n))

    def __sub__(self, other: "Estimate | float") -> "Estimate":
        if not isinstance(other, Estimate):
            return Estimate(self.value - other, self.standard_error)
        error = np.sqrt(np.square(self.standard_error) + np.square(other.standard_error))
        return Estimate(self.value - other.value, error)

    @property
    def in_standard_errors(self) -> Float[np.ndarray, "..."] | float:
        """value / standard_error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(self.value, self.standard_error)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.value, dtype)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        if np.ndim(self.value) == 0:
            return f"{float(self.value):.4g} ± {float(self.standard_error):.2g}"
        return f"Estimate(value={self.value!r}, standard_error={self.standard_error!r})"


def rounded(value: float, error: float | None = None, digits: int = 2, unit: str = "") -> str:
    """A value with its error as people read it: both end where the error has ``digits`` digits.

    The one rule by which tables, pages and sentences round.

    Parameters
    ----------
    value, error
        A number and its standard error. Without one (``None``, NaN, infinite) or where it is 0,
        the value alone, with four digits.
    digits
        Significant digits of the error.
    unit
        What follows; ``"%"`` multiplies both by 100.

    Examples
    --------
    >>> rounded(0.148776, 0.01755), rounded(-0.33149, 0.0663, unit="%")
    ('0.149 ± 0.018', '-33.1 ± 6.6 %')
    >>> rounded(1234.6, 87.2), rounded(1234.6, 187.2), rounded(0.5, 0.00996)
    ('1235 ± 87', '1230 ± 190', '0.500 ± 0.010')
    >>> rounded(0.227006667, 0.0), rounded(12345.6), rounded(0.98319, unit="%")
    ('0.227', '12350', '98.32 %')
    >>> rounded(3.21e9, 4.2e7), rounded(-3.2e-9, 4.2e-10)
    ('(3.210 ± 0.042)e+09', '(-3.20 ± 0.42)e-09')
    """
    scale = 100 if unit == "%" else 1
    value, after = scale * value, f" {unit}" if unit else ""
    if error is None or not (np.isfinite(value) and np.isfinite(error) and error > 0):
        shown = f"{value:.4g}"
        return (f"{float(shown):.0f}" if 1e4 <= abs(value) < 1e7 else shown) + after
    # Of the error as it will be written: 0.0996 has its second digit where 0.10 has it.
    error = float(f"{scale * error:.{digits - 1}e}")
    last = digits - 1 - int(np.floor(np.log10(error)))
    power = int(np.floor(np.log10(max(abs(value), error))))
    if power >= 7 or last > 7:  # more zeros than anyone counts
        return f"({rounded(value / 10.0**power, error / 10.0**power, digits)})e{power:+03d}{after}"
    shown = [f"{round(x, last) + 0.0:.{max(last, 0)}f}" for x in (value, error)]
    return " ± ".join(shown) + after


def deviate(
    first: Float[np.ndarray, "blocks members1 ..."],
    second: Float[np.ndarray, "blocks members2 ..."],
) -> Float[np.ndarray, "..."]:
    """Difference of two means, first minus second, in standard errors.

    Means are over blocks (such as draws of the data, which both share) and members; errors come
    from the spread of members within blocks. Few members make their own spread uncertain, so that
    the plain ratio has long tails: it is turned into the normal deviate that is as improbable, by
    Welch's test. NaN where nothing is known about the spread, or where both are exactly equal.

    Examples
    --------
    >>> one, other = np.array([[1.0, 1.2, 1.4]]), np.array([[0.1, 0.2, 0.3]])
    >>> round(float(deviate(one, other)), 2)
    2.82
    """
    from scipy import stats

    squares, shares, difference = 0.0, 0.0, 0.0
    for sign, values in ((1, np.asarray(first, float)), (-1, np.asarray(second, float))):
        blocks, members = values.shape[:2]
        spread = values.var(1, ddof=1) if members > 1 else np.full_like(values[:, 0], np.nan)
        parts = spread / (members * blocks**2)
        squares = squares + parts.sum(0)
        shares = shares + (parts**2).sum(0) / max(members - 1, 1)
        difference = difference + sign * values.mean((0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, freedom = np.abs(difference) / np.sqrt(squares), squares**2 / shares
        size = -stats.norm.ppf(stats.t.sf(ratio, freedom))
    size = np.where((squares == 0) & (difference != 0), np.inf, size)
    return np.copysign(size, difference)


def leave_one_out(members: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "1+R ..."]:
    """The mean over members, then the means without each one of them (R > 1)."""
    mean, count = members.mean(0, keepdims=True), len(members)
    if count == 1:
        return mean
    return np.concatenate([mean, (count * mean - members) / (count - 1)])


def pseudo_values(results: Float[np.ndarray, "1+R ..."]) -> Float[np.ndarray, "R ..."]:
    """Jackknife: from results on :func:`leave_one_out` inputs to values that act like members.

    Their mean is the result on all members with its bias of order 1/R removed, and the standard
    error of that mean is the jackknife's.

    Examples
    --------
    >>> members = np.array([1.0, 2.0, 6.0])
    >>> pseudo_values(leave_one_out(members)).tolist()  # the mean is linear: members come back
    [1.0, 2.0, 6.0]
    """
    count = len(results) - 1
    if count == 0:
        return results
    return count * results[:1] - (count - 1) * results[1:]
