"""One convolutional hidden layer at infinite width (theory section 2.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from ...kernels.particles.blocks import BLOCK
from ...kernels.particles.flow import rates
from ...kernels.particles.law import Law, Particles, Tangent
from ...kernels.particles.state import ReadoutTerm, TangentTerm
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.sampling import Sampling, neurons
from ...mathematics.stepping import Chebyshev, Exponential
from ...mathematics.stepping.choice import EXPONENTIAL_UP_TO, Chosen
from ...solution import Advance, Request
from ...system.devices import on_device
from ...system.errors import InputError, require_integers, require_one_of
from ...tasks import Task
from ...tasks.patches import POOLING, Patches, Pooling, span_of, square
from ...tasks.stages import Stage
from ..one_layer import AbstractOneLayer, Course, is_paired
from ..two_layer.limit import TwoLayer, TwoLayerState
from .flow import ConvolutionalFlow, Images, Recorder, Samples
from .state import FIELDS, PAIRS, ConvolutionalState

HELD = 2**30  # bytes up to which the gradients of all samples are held, for exponential steps

Pair = int | tuple[int, int]
State = ConvolutionalState | TwoLayerState


@dataclass(frozen=True)
class Convolutional(AbstractOneLayer[State]):
    """One convolutional hidden layer of infinitely many filters, then one readout.

    Every filter looks at all patches x_q of an image, and a readout at the average of what it
    finds: ``f = <z (1/Q) sum_q phi(w.x_q/sqrt d)>/gamma``. A patch as large as the image is
    :class:`adaptik.TwoLayer`, which then does the work.

    Attributes
    ----------
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    patch, stride
        Height and width of the patches, and steps between them in pixels: one number or two.
    pooling
        ``"average"`` over all patches; ``"root"``, their sum over sqrt(Q): the same at richness
        gamma sqrt(Q) and time t/Q; ``"none"``, a readout for every patch, over sqrt(Q).
    image
        ``(height, width)`` or ``(height, width, channels)`` of the inputs, whose columns are
        pixels row by row, channels last; ``None`` takes a square of one or three channels.
    padding
        Pixels of zeros around the image, fewer than the patch has.
    particles
        Filters per replicate; at least the numbers in a patch and the readouts of a filter, so
        that second moments can be exact. ``None`` takes 1024, or more where that is too few.
    replicates, dtype, sampling, max_steps
        As for :class:`adaptik.TwoLayer`.
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    scale
        Standard deviation of filters at the start, as for :class:`adaptik.TwoLayer`.

    Raises
    ------
    InputError
        For values out of range and a patch larger than its image; in :func:`adaptik.solve` for
        inputs that are no such images.

    Examples
    --------
    >>> import adaptik as ak
    >>> task = ak.tasks.load("digits", classes=(3, 5), n_train=20, n_test=20)
    >>> limit = ak.Convolutional("relu", patch=3, stride=2, particles=64, replicates=2)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0, duration=5.0)], limit)
    >>> solution.outcome.value
    'reached its duration'
    """

    state: ClassVar = State

    activation: str | Activation | Elementwise = "relu"
    patch: Pair = 5
    stride: Pair = 1
    pooling: Pooling = "average"
    image: tuple[int, ...] | None = None
    padding: int = 0
    particles: int | None = None
    replicates: int = 4
    dtype: str = "float32"
    tol: float = 3e-3
    sampling: Sampling = "quasi"
    max_steps: int = 4096
    scale: float = 1.0

    def __post_init__(self):
        for name, allowed in (("patch", (2,)), ("stride", (2,)), ("image", (2, 3))):
            object.__setattr__(self, name, _sizes(name, getattr(self, name), allowed))
        require_one_of(POOLING, pooling=self.pooling)
        require_integers(0, padding=self.padding)
        if self.padding >= min(self._pair("patch")):
            raise InputError(
                f"padding={self.padding} makes patches of nothing but zeros; give less than the "
                f"patch, {min(self._pair('patch'))}"
            )
        dense = self._dense  # which checks what both have
        object.__setattr__(self, "activation", dense.activation)
        object.__setattr__(self, "scale", dense.scale)
        if self.image is not None:
            self._fitting(self.image)

    def _pair(self, name: str) -> tuple[int, int]:
        given = getattr(self, name)
        return given if isinstance(given, tuple) else (given, given)

    @property
    def _dense(self) -> TwoLayer:
        accuracy = ("particles", "replicates", "dtype", "tol", "sampling", "max_steps")
        shared = ("activation", "scale", *accuracy)
        return TwoLayer(**{name: getattr(self, name) for name in shared})

    def _fitting(self, image: tuple[int, ...]) -> Patches:
        """The patches of such an image."""
        height, width, channels = (*image, 1)[:3]
        size, stride = self._pair("patch"), self._pair("stride")
        padded = tuple(n + 2 * self.padding for n in (height, width))
        if size[0] > padded[0] or size[1] > padded[1]:
            raise InputError(
                f"patch={self.patch} is larger than the image of {padded[0]} x {padded[1]} pixels"
                f"{' with its padding' if self.padding else ''}; give a smaller patch"
            )
        return Patches((height, width, channels), size, stride, self.padding, self.pooling)

    def patches(self, task: Task) -> Patches:
        """Where the patches of a task's images lie.

        Raises
        ------
        InputError
            If its inputs are no images of the shape asked for.
        """
        image = square(task.dimension) if self.image is None else self.image
        if math.prod(image) != task.dimension:
            raise InputError(
                f"image={image} has {math.prod(image)} numbers, inputs of task {task.name!r} have "
                f"{task.dimension}; give the height, width and channels of the inputs"
            )
        return self._fitting(image)

    def _count(self, patches: Patches, outputs: int) -> int:
        least = patches.dimension + outputs * patches.heads
        if self.particles is None:
            return max(1024, 2 ** math.ceil(math.log2(2 * least)))
        if self.particles < least and self.sampling == "quasi":
            raise InputError(
                f"particles={self.particles} cannot hold the second moments of {least} filter "
                f"coordinates and readouts; give at least {least}, or sampling='iid'"
            )
        return self.particles

    def check_stage(self, i: int, stage: Stage) -> None:
        super().check_stage(i, stage)
        patches = self.patches(stage.task)
        if not is_dense(patches):
            self._count(patches, stage.task.outputs)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        patches = self.patches(stages[0].task)
        if is_dense(patches):
            return self._dense.predicted_bytes(stages, tasks)
        outputs = max(s.task.outputs for s in stages)
        count = self._count(patches, outputs) * 2 ** sum(is_paired(s) for s in stages)
        width, members = np.dtype(self.dtype).itemsize, self.replicates * count
        law = members * (patches.dimension + outputs * patches.heads)
        per_image = members * max(patches.count, outputs * patches.dimension)
        block = 8 * max(BLOCK, per_image) + 4 * FIELDS
        held = max(self._held(s, patches, members) for s in stages)
        samples = max(s.task.n_train for s in stages)
        images = sum(t.n_train + (0 if t.X_test is None else len(t.X_test)) for t in tasks.values())
        recorded = images * (24 * self.replicates * outputs + patches.count + patches.pixels)
        kernels = 6 * self.replicates * (samples * outputs) ** 2 + 12 * PAIRS
        return int(width * (24 * law + block + 3 * held) + 8 * (recorded + kernels))

    def _held(self, stage: Stage, patches: Patches, members: int) -> int:
        """Numbers in the gradients of all samples, where they are held."""
        size = self._gradients(stage, patches, members)
        return size if self._exponential(stage, size) else 0

    def _gradients(self, stage: Stage, patches: Patches, members: int) -> int:
        outputs = stage.task.outputs
        return stage.task.n_train * members * (outputs * patches.dimension + patches.heads)

    def _exponential(self, stage: Stage, size: int) -> bool:
        modes = stage.task.n_train * stage.task.outputs
        fits = np.dtype(self.dtype).itemsize * size <= HELD
        moves = not (stage.has_fixed_kernel or stage.is_lazy)
        return moves and modes <= EXPONENTIAL_UP_TO and fits

    def start(self, stages, tasks, rng) -> State:
        patches = self.patches(stages[0].task)
        if is_dense(patches):
            return self._dense.start(stages, tasks, rng)
        span, outputs = span_of(patches, tasks.values()), stages[0].task.outputs
        count = self._count(patches, max(s.task.outputs for s in stages))
        heads = outputs * patches.heads
        w, z = neurons(rng, self.replicates, count, span.rank, heads, self.sampling, self.dtype)
        return ConvolutionalState(self.phi, patches, span, Particles.drawn(w, z, self.scale))

    def least(self, tasks: dict[str, Task]) -> int:
        each = list(tasks.values())
        patches = self.patches(each[0])
        return patches.dimension + patches.heads * max(task.outputs for task in each)

    def advance(self, state: State, stage: Stage, request: Request) -> Advance[State]:
        if isinstance(state, TwoLayerState):
            return self._dense.advance(state, stage, request)
        return super().advance(state, stage, request)

    def course(
        self,
        state: State,
        stage: Stage,
        recorded: dict[tuple[str, str], np.ndarray],
    ) -> Course[State]:
        assert isinstance(state, ConvolutionalState)
        flow, recorder = self._started(state, stage, recorded)
        y0 = Law(on_device(state.particles.w), on_device(state.particles.z))
        state_at = partial(self._state_at, state, recorder, stage)
        return Course(flow, y0, recorder, state_at, self._stepper(state, stage))

    def _stepper(self, state: ConvolutionalState, stage: Stage) -> Chosen:
        members = math.prod(state.particles.w.shape[:2])
        size = self._gradients(stage, state.patches, members)
        if self._exponential(stage, size):
            return Chosen(Exponential(), "gradients of all samples are held")
        reason = f"{stage.task.n_train * stage.task.outputs} samples x outputs"
        return Chosen(Chebyshev(), f"{reason}, exponential up to {EXPONENTIAL_UP_TO} that fit")

    def _started(
        self,
        state: ConvolutionalState,
        stage: Stage,
        recorded: dict[tuple[str, str], np.ndarray],
    ) -> tuple[ConvolutionalFlow, Recorder]:
        """The flow of a stage and the recorder of its predictions."""
        task, scalar = stage.task, rates(stage)
        inverse = 0.0 if stage.is_lazy else 1 / stage.richness
        bases = {key: _base(state, X, inverse) for key, X in recorded.items()}
        filters, p = state.filters, state.particles
        home = on_device(p.w if stage.elastic > 0 else np.zeros((1, 1, 1)), self.dtype)
        flow = ConvolutionalFlow(
            filters=filters,
            objective=stage.objective.placed(),
            samples=self._samples(state, task),
            offset=on_device(bases[task.name, "train"]),
            home=home,
            **scalar,
        )
        images = [
            Images.of(state.patches, state.span, X, self.dtype, p.shrink) for X in recorded.values()
        ]
        return flow, Recorder(filters, images, list(map(on_device, bases.values())), **scalar)

    def _samples(self, state: ConvolutionalState, task: Task) -> Samples:
        patches, basis = state.patches, state.span.basis / np.sqrt(state.patches.dimension)
        covariance = np.zeros((state.span.rank,) * 2)
        for cut in patches.blocks(task.X):
            inside = patches.of(task.X[cut]).reshape(-1, patches.dimension) @ basis
            covariance += inside.T @ inside / (task.n_train * patches.count)
        images = Images.of(patches, state.span, task.X, self.dtype)
        return Samples(images, on_device(task.y), on_device(covariance, self.dtype))

    def _stored(self, law: Law) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(law.w).astype(self.dtype), np.asarray(law.z).astype(self.dtype)

    def _state_at(
        self,
        before: ConvolutionalState,
        recorder: Recorder,
        stage: Stage,
        t: float,
        y: Law | Tangent,
    ) -> ConvolutionalState:
        """The state at time t of a stage, from what the stepper carries."""
        base, move = (y.base, y.move) if isinstance(y, Tangent) else (y, None)
        shrink = before.particles.shrink * float(recorder.fade(on_device(t)))
        moved = Particles(*self._stored(base), shrink, False, False)
        if move is None:
            return before.moved(moved, stage.richness)
        term = TangentTerm(moved, *self._stored(move))
        return replace(before, particles=moved, terms=(term,))


def is_dense(patches: Patches) -> bool:
    """Whether one patch is all of the image, so that pooling has nothing to do."""
    return patches.count == 1 and patches.dimension == patches.pixels and patches.padding == 0


def _base(
    state: ConvolutionalState, X: Float[np.ndarray, "n D"], inverse: float
) -> Float[np.ndarray, "R n C"]:
    """f - <z phi> * ``inverse`` of images."""
    f = state.predict(X)
    return f - state.evaluate(ReadoutTerm(state.particles, inverse), X) if inverse else f


def _sizes(name: str, given: Any, lengths: tuple[int, ...]) -> Any:
    """One number, or a tuple of integers >= 1 of an allowed length, or ``None`` for an image."""
    if name == "image" and given is None:
        return None
    if isinstance(given, list | tuple):
        if len(given) not in lengths:
            raise InputError(
                f"{name} must have {' or '.join(map(str, lengths))} numbers, got {given!r}"
            )
        for value in given:
            require_integers(1, **{name: value})
        return tuple(int(value) for value in given)
    if name == "image":
        raise InputError(
            f"image must be (height, width) or (height, width, channels), got {given!r}"
        )
    require_integers(1, **{name: given})
    return int(given)  # pyright: ignore[reportArgumentType]
