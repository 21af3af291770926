"""A study with invented numbers, for what is drawn and written of studies."""

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from adaptik.transfer import study as answered


@dataclass(frozen=True)
class Row(answered.Row):
    test_loss_se: float = 0.004
    sampling_se: float = 0.03
    outcome: str = "converged"
    seconds: float = 1.25


@dataclass(frozen=True)
class Verdict:
    sentence: str
    helps: bool | None = True
    gain: float | None = 0.21
    gain_se: float | None = 0.04
    confidence: float | None = 0.99
    source_richness: float | None = 2.0
    target_richness: float | None = 0.0
    mode: str | None = "lazy"


@dataclass(frozen=True)
class Curve:
    origin: str
    mode: str
    source_richness: float | None
    target_richness: float | None
    stage: str
    task: str
    times: np.ndarray
    loss: np.ndarray
    standard_error: np.ndarray


@dataclass(frozen=True)
class Study:
    config: dict
    rows: tuple = ()
    verdict: Verdict = field(default_factory=lambda: Verdict("No verdict.", None, *[None] * 6))
    curves: tuple = ()
    kernels: dict = field(default_factory=dict)
    alignments: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)
    notes: tuple = ()
    complete: bool = True

    def to_xarray(self):
        losses = [row.test_loss for row in self.rows]
        modes = [row.mode for row in self.rows]
        return xr.Dataset({"test_loss": ("row", losses), "mode": ("row", modes)})

    def evolution(self):
        return xr.Dataset()


def a_curve(origin, mode, g1, g2, stage, task, rng):
    times = np.concatenate([[0], np.geomspace(0.05, 200, 60)])
    speed = 0.3 * (1 + (g1 or 0))
    falls = stage == task
    loss = (
        0.1 / (1 + (g1 or 0)) + 0.9 * np.exp(-speed * times) if falls else 1 + 0.1 * np.log1p(times)
    )
    error = np.full(len(times), 0.004 if origin == "theory" else 0.02)
    if origin == "network":
        loss = loss + 0.02 * rng.standard_normal(len(times))
    return Curve(origin, mode, g1, g2, stage, task, times, loss, error)


def a_study(richness=(0.0, 0.5, 1.0, 2.0, 4.0), network=True, classes=True):
    rng = np.random.default_rng(0)
    modes = [("scratch", 0.0), ("scratch", 1.0), ("readout", None), ("lazy", 0.0), ("rich", 1.0)]
    rows, curves = [], []
    for mode, g2 in modes:
        for g1 in (None,) if mode == "scratch" else richness:
            loss = (
                0.53 - 0.06 * g2
                if g1 is None
                else 0.55 - 0.1 * np.log1p(g1) + 0.03 * len(mode) - 0.05 * (g2 or 0)
            )
            checked = dict(
                network_test_loss=loss + 0.01 * rng.standard_normal(),
                network_test_loss_se=0.01, difference_in_se=0.7,
            ) if network else {}  # fmt: skip
            source = {} if g1 is None else dict(
                source_loss_before=0.2 - 0.02 * g1,
                source_loss_after=0.25 + 0.1 * g1 if mode != "readout" else float("nan"),
            )  # fmt: skip
            accuracy = 0.93 if classes else None
            rows.append(Row(mode, g1, g2, loss, accuracy=accuracy, **checked, **source))
            for origin in ("theory", "network") if network else ("theory",):
                tasks = ("target",) if g1 is None else ("source", "target")
                for task in tasks:
                    curves.append(a_curve(origin, mode, g1, g2, "target", task, rng))
                    if g1 is not None:
                        curves.append(a_curve(origin, mode, g1, g2, "source", task, rng))
    X, y = rng.standard_normal((40, 12)), np.repeat([-1, 1], 20)
    lazy = X @ X.T / 12 + 1
    return Study(
        config={
            "source": "digits:3,5",
            "richness": list(richness),
            "kernel_richness": richness[-1],
        },
        rows=tuple(rows),
        verdict=Verdict("Pretraining helps: <21 %> & more at richness 2."),
        curves=tuple(curves),
        kernels={"lazy": lazy, "adapted": lazy + 1.5 * np.outer(y, y)},
        alignments={
            "source kernel at target labels": {g: (0.1 + 0.1 * g, 0.01) for g in richness},
            "final kernel at target labels": {g: (0.3 + 0.1 * g, float("nan")) for g in richness},
        },
        tasks={
            "source": {
                "name": "digits:3,5",
                "n_train": 200,
                "n_test": 150,
                "D": 64,
                "classes": ("3", "5"),
            },
            "target": {"name": "digits:8,9", "n_train": 40, "n_test": 300, "D": 64, "classes": ()},
        },
        notes=("the network check used width 2048",),
    )
