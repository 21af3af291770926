"""How much memory a stage of two layers takes, and whether its fields must be cut into blocks.

Steps that know the stiff part hold fields of all particles at all samples, some seventeen of them:
a sample's kink keeps its place from step to step. Explicit steps need nothing but laws: a sample's
predictor, error signal and push need no other sample, so that blocks are worked through in turn.
What grows with samples then are their own coordinates.
"""

import math
from typing import NamedTuple

from ...kernels.particles.blocks import BLOCK
from ...mathematics.deflation import COORDINATES, DIRECTIONS
from ...mathematics.sliding import together
from ...mathematics.stepping.choice import EXPONENTIAL_UP_TO
from ...system.devices import accelerator_bytes
from ...system.memory import available_bytes
from ...tasks.stages import Stage
from .rest import peak_bytes

DUAL_UP_TO = 1.5  # samples for a coordinate: with more, dual coefficients cost more than they save
SHARE = 0.5  # of the memory there is, up to which fields of all samples are held
LAWS = 24  # that Chebyshev steps hold, in double precision
COPIES = 4.5  # of the samples, alike: their coordinates, where they lie and are recorded


class Size(NamedTuple):
    """Of the particles that go through a stage."""

    replicates: int
    particles: int
    rank: int
    width: int  # bytes of a number
    kinked: bool


def dual_pays(samples: int, active: int) -> bool:
    return samples <= DUAL_UP_TO * active


def stage_bytes(stage: Stage, size: Size) -> int:
    """A bound of what a stage holds while it runs."""
    return _blocks_bytes(stage, size) if needs_blocks(stage, size) else _whole_bytes(stage, size)


def needs_blocks(stage: Stage, size: Size) -> bool:
    """Whether a stage takes explicit steps through blocks of samples because memory is short.

    Where readouts are at their optimum, weights move along few directions, or a stage ends at rest,
    all fields are needed at once; where the kernel stays, no steps are taken.
    """
    at_once = math.isinf(stage.head_rate) or stage.low_rank is not None or stage.ends_at_rest
    if at_once or stage.has_fixed_kernel:
        return False
    there_is = min(available_bytes(), accelerator_bytes())
    return _whole_bytes(stage, size) > SHARE * there_is


def _whole_bytes(stage: Stage, size: Size) -> int:
    samples, outputs, rest = stage.task.n_train, stage.task.outputs, stage.ends_at_rest
    replicates, particles, rank, width, kinked = size
    modes, optimal = samples * outputs, math.isinf(stage.head_rate)
    active = samples if dual_pays(samples, rank) else rank
    # Beside the fields of samples: gradients of all outputs where the whole kernel is held.
    fields = 17 * (modes if modes <= EXPONENTIAL_UP_TO else samples)
    per_particle = 6 * rank + 30 * active + fields
    if kinked:
        per_particle += together(samples) ** 2
    kernels = samples**2 if rest else 0  # K_x
    if optimal:
        kernels += 4 * replicates * outputs * samples**2  # Phi, solved for every output
    if modes <= EXPONENTIAL_UP_TO:
        kernels += samples**2 + 6 * replicates * modes**2
    else:
        per_particle += 3 * COORDINATES * DIRECTIONS * outputs
    moving = replicates * particles * per_particle * width
    if rest:
        moving = max(moving, peak_bytes(particles, active, samples, outputs))
    return moving + 8 * kernels


def _blocks_bytes(stage: Stage, size: Size) -> int:
    laws = LAWS * size.replicates * size.particles * (size.rank + stage.task.outputs)
    return int(8 * (laws + COPIES * stage.task.n_train * size.rank + 4 * BLOCK))
