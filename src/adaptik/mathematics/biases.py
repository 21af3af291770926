"""Biases of layers: one number for all, or that of hidden layers and that of the readout."""

from ..system.errors import InputError, require_at_least_zero

Bias = float | tuple[float, float]
NONE = (0.0, 0.0)


def deviations(bias: Bias) -> tuple[float, float]:
    """b of hidden layers and b_r of the readout (theory section 1).

    Raises
    ------
    InputError
        If they are no finite numbers >= 0.

    Examples
    --------
    >>> deviations(0.5), deviations((0.5, 0))
    ((0.5, 0.5), (0.5, 0.0))
    """
    both = tuple(bias) if isinstance(bias, tuple | list) else (bias, bias)
    if len(both) != 2 or any(isinstance(b, bool) for b in both):
        raise InputError(
            "bias must be a number, or a pair for hidden layers and readout such as (0.5, 0.0), "
            f"got {bias!r}"
        )
    for b in both:
        require_at_least_zero(bias=b)
    return float(both[0]), float(both[1])
