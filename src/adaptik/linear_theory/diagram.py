"""Maps of transfer over any two quantities of the linear theory, with simulated points on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..system.errors import InputError
from .checked import CHOICES, checked
from .isotropic import over_rich_loss, transfer_loss
from .regularised import regularised_transfer_loss
from .simulation import simulate, simulate_isotropic
from .source_stage import Finetune, Head
from .spectral import spectral_transfer_loss

if TYPE_CHECKING:
    import xarray as xr

Points = Sequence[tuple[float, float]]
Quantity = Literal["gain", "loss", "change", "over_rich"]
# name: symbol, words, default value
QUANTITIES: dict[str, tuple[str, str, float | None]] = {
    "alignment": ("α", "alignment of the teachers", 0.8),
    "nu_target": ("ν₂", "target samples per dimension", 0.4),
    "richness": ("γ₁", "source richness", 2.0),
    "nu_source": ("ν₁", "source samples per dimension", np.inf),
    "noise_alignment": ("α_g", "alignment with the source's noise direction", 0.0),
    "source_noise": ("σ₁²", "source label noise", 0.0),
    "target_noise": ("σ₂²", "target label noise", 0.0),
    "ridge": ("λ", "ridge of the target stage", 0.0),
    "time": ("t/D", "duration of the target stage", None),
    "exponent": ("a", "exponent of the covariance spectrum", None),
    "contrast": ("r", "variance of strong over weak directions", None),
}
SHOWN = {
    "gain": "transfer gain 1 − loss/baseline",
    "loss": "target test loss",
    "change": "loss − loss without pretraining",
    "over_rich": "target test loss, spike alone",
}
COVARIANCES = {"exponent": 0.0, "contrast": 1.0}  # and their least values: inputs are isotropic
OF_OVER_RICH = ("nu_source", "alignment", "noise_alignment")  # what that loss depends on
LARGE = 1e30  # of a value; formulas take its powers
POINTS, DRAWS = 10_000, 100_000  # at most: of an axis or of simulations, and at one point
CHUNK = 64  # points of a map with anisotropic inputs that one compiled program answers
STRONG = 0.2  # share of strong directions where ``contrast`` is given


@dataclass(frozen=True)
class Axis:
    """One axis of a map: a quantity and its values.

    Examples
    --------
    >>> Axis("richness", np.array([0.0, 1.0])).label
    'source richness γ₁'
    """

    name: str
    values: np.ndarray

    def __post_init__(self):
        _known(self.name)
        values = np.atleast_1d(np.asarray(self.values, float))
        if values.ndim != 1 or not np.all(np.diff(values) > 0):
            raise InputError(f"axis {self.name!r} needs increasing values")
        _within_range(self.name, values)
        object.__setattr__(self, "values", values)

    @property
    def label(self) -> str:
        symbol, words, _ = QUANTITIES[self.name]
        return f"{words} {symbol}"

    @classmethod
    def parse(cls, text: str, points: int) -> "Axis":
        """From ``name=low:high``, ``name=low:high:points`` and either with ``:log`` behind it.

        Examples
        --------
        >>> Axis.parse("nu_source=0.1:10:3:log", 100).values.round(3).tolist()
        [0.1, 1.0, 10.0]
        """
        name, _, given = text.partition("=")
        _known(name)
        parts = given.split(":")
        spaced = np.geomspace if parts[-1] == "log" else np.linspace
        try:
            low, high, *more = (float(part) for part in parts if part != "log")
            count = int(more[0]) if more else points
        except (ValueError, OverflowError):
            raise InputError(
                f"axis {text!r} cannot be read; write name=low:high, name=low:high:points or "
                "either with :log behind it"
            ) from None
        if not -np.inf < low < high < np.inf or count < 2 or len(more) > 1:
            raise InputError(f"axis {text!r} needs low < high, finite, and at least 2 points")
        if count > POINTS:
            raise InputError(f"axis {text!r} needs at most {POINTS} points, got {count}")
        _within_range(name, np.array([low, high]))
        if spaced is np.geomspace and low <= 0:
            raise InputError(f"axis {text!r} is logarithmic and needs low > 0")
        return cls(name, spaced(low, high, count))


@dataclass(frozen=True)
class Diagram:
    """What a map shows.

    Attributes
    ----------
    x, y
        The axes.
    quantity
        ``"gain"``, ``"loss"``, ``"change"`` (loss minus baseline) or ``"over_rich"``
        (:func:`over_rich_loss`).
    settings
        Other quantities by name; the rest has the values of ``QUANTITIES``. ``exponent`` or
        ``contrast`` make the inputs anisotropic: eigenvalues ``i^-exponent``, or a fifth of the
        directions with ``contrast`` times the variance of the others; both teachers then weigh all
        directions equally.
    head, finetune
        As in :func:`spike`.
    dimension
        D of simulations and of anisotropic covariances.
    """

    x: Axis
    y: Axis
    quantity: Quantity = "gain"
    settings: dict[str, float] = field(default_factory=dict)
    head: Head = "fresh"
    finetune: Finetune = "readout"
    dimension: int = 400

    def __post_init__(self):
        names = [self.x.name, self.y.name, *self.settings]
        for name in names:
            _known(name)
        for name, value in self.settings.items():
            _within_range(name, np.asarray(value, float))
        if len(set(names)) < len(names):
            raise InputError(f"each quantity can be given once, got {names}")
        if self.quantity not in SHOWN:
            raise InputError(f"quantity={self.quantity!r} is unknown; use one of {tuple(SHOWN)}")
        for name in ("head", "finetune"):
            if getattr(self, name) not in CHOICES[name]:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is unknown; use one of {CHOICES[name]}"
                )
        if COVARIANCES.keys() <= set(names):
            raise InputError("give exponent or contrast, not both: each is a covariance")
        if self.anisotropic and "noise_alignment" in names:
            raise InputError("noise_alignment needs isotropic inputs; leave out the covariance")
        if self.quantity == "over_rich" and not set(names) <= set(OF_OVER_RICH):
            raise InputError("over_rich depends on nu_source, alignment and noise_alignment only")
        if not 20 <= self.dimension <= 4000 or self.dimension % 2:
            raise InputError(f"dimension must be even, 20 to 4000, got {self.dimension}")

    @property
    def anisotropic(self) -> bool:
        return not COVARIANCES.keys().isdisjoint({self.x.name, self.y.name, *self.settings})

    def at(self, x: Any, y: Any) -> dict[str, Any]:
        """All quantities where the axes have values ``x`` and ``y``."""
        values = {name: default for name, (_, _, default) in QUANTITIES.items()}
        return values | self.settings | {self.x.name: x, self.y.name: y}

    def evaluate(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Loss and baseline at broadcastable ``x`` and ``y``."""
        given = self.at(x, y)
        numbers: dict[str, Any] = {n: v for n, v in given.items() if n not in COVARIANCES}
        for name, low in COVARIANCES.items():
            value = np.asarray(low if given[name] is None else given[name], float)
            if not np.all((value >= low) & (value < np.inf)):
                raise InputError(f"{name} must be finite and >= {low:g}")
        if self.quantity == "over_rich":
            loss = over_rich_loss(*(numbers[name] for name in OF_OVER_RICH))
            return np.asarray(loss), np.ones_like(loss)
        if self.anisotropic:
            return self._spectral(given)
        choice: dict[str, Any] = dict(head=self.head, finetune=self.finetune)
        plain = numbers.pop("time") is None and np.all(numbers["ridge"] == 0)
        if plain:
            del numbers["ridge"]
            loss = transfer_loss(**numbers, **choice)
        else:
            numbers["time"] = given["time"]
            loss = regularised_transfer_loss(**numbers, **choice)
        scratch: dict[str, Any] = numbers | dict(
            richness=0.0, nu_source=np.inf, source_noise=0.0, alignment=0.0, noise_alignment=0.0
        )
        baseline = (transfer_loss if plain else regularised_transfer_loss)(
            **scratch, head="fresh", finetune="readout"
        )
        return np.asarray(loss), np.broadcast_to(baseline, np.shape(loss))

    def _spectral(self, given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        names = [n for n, value in given.items() if value is not None and n != "noise_alignment"]
        arrays = np.broadcast_arrays(*(np.asarray(given[n], float) for n in names))
        numbers = dict(zip(names, arrays, strict=True))
        checked({n: v for n, v in numbers.items() if n not in COVARIANCES})
        flat = {n: v.ravel() for n, v in numbers.items()}
        parts = []
        with jax.enable_x64(True):
            for i in range(0, arrays[0].size, CHUNK):
                part = {n: v[i : i + CHUNK] for n, v in flat.items()}
                lack = CHUNK - len(part["alignment"])  # one program serves maps of any size
                padded = {n: np.pad(v, (0, lack), mode="edge") for n, v in part.items()}
                found = _pairs(self.dimension, self.head, self.finetune, padded)
                parts.append(np.asarray(found)[:, : CHUNK - lack])
        loss, baseline = np.concatenate(parts, axis=1).reshape(2, *arrays[0].shape)
        return loss, baseline

    def shown(self, loss: np.ndarray, baseline: np.ndarray) -> np.ndarray:
        """The map's quantity from losses and baselines."""
        if self.quantity == "gain":
            informed = (baseline > 0) & np.isfinite(baseline)
            return np.where(informed, 1 - loss / np.where(informed, baseline, 1.0), 0.0)
        return loss - baseline if self.quantity == "change" else loss

    def simulate(self, x: float, y: float, draws: int, seed: int) -> tuple[float, float]:
        """The quantity and its standard error from ``draws`` direct simulations."""
        given = {name: v for name, v in self.at(x, y).items() if name != "time"}
        time, D = self.at(x, y)["time"], self.dimension
        modes = () if self.quantity == "over_rich" else ((self.finetune, self.head),)
        settings: dict[str, Any] = dict(time=time, modes=modes, draws=draws, seed=seed)
        if self.anisotropic:
            with jax.enable_x64(True):
                S, source, target = (np.asarray(a) for a in covariance(D, given))
            result = simulate(
                S,
                S,
                source,
                target,
                given["nu_source"] * D,
                round(given["nu_target"] * D),
                given["richness"],
                target_ridge=given["ridge"],
                source_noise=given["source_noise"],
                target_noise=given["target_noise"],
                **settings,
            )
        else:
            named = {n: v for n, v in given.items() if n not in COVARIANCES}
            result = simulate_isotropic(**named, **settings, dimension=D)
        if self.quantity == "over_rich":
            values = result.spike_alone
        else:
            loss, baseline = result.loss[:, 0], result.baseline
            values = loss - baseline if self.quantity == "change" else loss
            if self.quantity == "gain":  # linearised around the means
                mean = baseline.mean()
                ratio = loss.mean() / mean if mean > 0 else 1.0
                values = 1 - ratio - (loss - ratio * baseline) / (mean if mean > 0 else 1.0)
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(draws))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _pairs(D: int, head: Head, finetune: Finetune, given: dict[str, Any]):
    """Losses and baselines of some points with anisotropic inputs."""

    def pair(given):
        S, source, target = covariance(D, given)
        n_target = given["nu_target"] * D
        noise: dict[str, Any] = dict(target_noise=given["target_noise"])
        limit: dict[str, Any] = dict(target_ridge=given["ridge"], time=given.get("time"))
        loss = spectral_transfer_loss(
            S,
            S,
            source,
            target,
            given["nu_source"] * D,
            n_target,
            given["richness"],
            source_noise=given["source_noise"],
            **noise,
            **limit,
            head=head,
            finetune=finetune,
        )
        scratch = spectral_transfer_loss(
            S, S, source, target, jnp.inf, n_target, 0.0, **noise, **limit
        )
        return jnp.stack([loss, scratch])

    return jax.vmap(pair, out_axes=1)(given)


def covariance(D: int, given: dict[str, Any]):
    """Eigenvalues of trace D in pairs, and unit-variance teachers that overlap by the alignment.

    Source and target teacher share one direction of every pair and the target has the rest along
    the other, so that all directions weigh equally and the overlap holds in each.
    """
    index = jnp.repeat(jnp.arange(1, D // 2 + 1.0), 2)
    if given.get("exponent") is not None:
        S = index ** -given["exponent"]
    else:
        S = jnp.where(index <= STRONG * D / 2, given["contrast"], 1.0)
    S = S * D / jnp.sum(S)
    weight = jnp.sqrt(2.0 / D)
    shared, other = (jnp.tile(weight * jnp.array(p), D // 2) for p in ([1.0, 0.0], [0.0, 1.0]))
    alignment = given["alignment"]
    return S, shared, alignment * shared + jnp.sqrt(1 - alignment**2) * other


def phase_diagram(
    diagram: Diagram,
    *,
    checks: int | Points = 6,
    draws: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> "xr.Dataset":
    """Evaluate a map, and simulate some of its points.

    Parameters
    ----------
    diagram
        What to show.
    checks
        Number of points, spread over the map, that are simulated (0 for none), or the points.
    draws, seed
        Simulations of every such point, and what fixes points and samples.
    progress
        Called with how much is done, and of how much: the map, then every simulated point.

    Returns
    -------
    xr.Dataset
        ``loss``, ``baseline`` and ``value`` (the quantity) over both axes; ``simulated``,
        ``standard_error`` and ``theory`` over ``check``, with coordinates ``check_x`` and
        ``check_y``. Settings are attributes.

    Examples
    --------
    >>> axes = Axis("alignment", np.linspace(-1, 1, 5)), Axis("nu_target", np.array([0.2, 0.5]))
    >>> phase_diagram(Diagram(*axes, head="kept", dimension=40), checks=0).value.shape
    (2, 5)
    """
    import xarray as xr

    if (isinstance(checks, int) and checks < 0) or draws < 2 or seed < 0:
        raise InputError("checks and seed must be >= 0 and draws at least 2")
    if (isinstance(checks, int) and checks > POINTS) or draws > DRAWS:
        raise InputError(f"checks must be at most {POINTS} and draws at most {DRAWS}")
    x, y = diagram.x, diagram.y
    with np.errstate(all="ignore"):
        loss, baseline = diagram.evaluate(x.values[None, :], y.values[:, None])
    if np.isnan(loss).any() or np.isnan(baseline).any():
        raise InputError(
            f"the theory has no finite value for some {x.name} and {y.name} of this map with "
            f"{diagram.settings}; take values nearer to 1"
        )
    points = _spread(diagram, checks, seed) if isinstance(checks, int) else list(checks)
    simulated = []
    for i, point in enumerate(points):
        progress(1 + i, 1 + len(points))
        simulated.append(diagram.simulate(*point, draws, seed + i))
    progress(1 + len(points), 1 + len(points))
    simulated = np.array(simulated).reshape(-1, 2).T
    theory = [diagram.shown(*(np.asarray(v) for v in diagram.evaluate(*p))) for p in points]
    shape = (y.values.size, x.values.size)
    maps = dict(loss=loss, baseline=baseline, value=diagram.shown(loss, baseline))
    fixed = {n: v for n, v in diagram.at(None, None).items() if v is not None}
    return xr.Dataset(
        {name: ((y.name, x.name), np.broadcast_to(v, shape)) for name, v in maps.items()}
        | dict(
            simulated=("check", simulated[0]),
            standard_error=("check", simulated[1]),
            theory=("check", np.array(theory, float)),
        ),
        coords={
            x.name: x.values,
            y.name: y.values,
            "check_x": ("check", np.array([p[0] for p in points], float)),
            "check_y": ("check", np.array([p[1] for p in points], float)),
        },
        attrs=dict(
            quantity=diagram.quantity,
            head=diagram.head,
            finetune=diagram.finetune,
            x=x.name,
            y=y.name,
            dimension=diagram.dimension,
            draws=draws,
            **fixed,
        ),
    )


def _spread(diagram: Diagram, count: int, seed: int) -> list[tuple[float, float]]:
    """Points of the map's grid that fill it evenly, at sample numbers that exist."""
    from scipy.stats import qmc

    if count == 0:
        return []
    unit = qmc.Sobol(2, rng=seed).random_base2(int(np.ceil(np.log2(max(count, 2)))))[:count]
    unit = 0.06 + 0.88 * unit
    points = []
    for place in unit:
        pair = []
        for axis, u in zip((diagram.x, diagram.y), place, strict=True):
            value = axis.values[int(np.rint(u * (len(axis.values) - 1)))]
            if axis.name in ("nu_target", "nu_source"):
                value = max(np.rint(value * diagram.dimension), 1) / diagram.dimension
            pair.append(float(value))
        points.append((pair[0], pair[1]))
    return points


def _within_range(name: str, values: np.ndarray) -> None:
    """Refuse sizes whose powers no float can hold; infinity has a meaning of its own."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if np.isnan(values).any() or np.any(sizes > LARGE) or np.any(sizes < 1 / LARGE):
        raise InputError(
            f"{name} must be 0 or of size {1 / LARGE:g} to {LARGE:g}, got "
            f"{np.min(values):g} to {np.max(values):g}"
        )


def _known(name: str) -> None:
    if name not in QUANTITIES:
        raise InputError(f"quantity {name!r} is unknown; use one of {tuple(QUANTITIES)}")
