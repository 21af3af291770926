"""Dense networks, or convolutions with pooling in their place, of experiments on images."""

from dataclasses import dataclass
from typing import Any

from ...limits import AbstractLimit, Convolutional, TwoLayer
from ...networks import ConvolutionalNetwork, Network
from ...tasks import Task
from ..both import Accuracy
from .pairs import Images

ARCHITECTURES = ("dense", "average", "root")  # the latter two are poolings


@dataclass(frozen=True, kw_only=True)
class Architecture(Accuracy):
    """Which networks, and how precisely they are computed.

    Attributes
    ----------
    architecture
        ``"dense"``, or the pooling of a convolution, ``"average"`` or ``"root"``.
    patch, stride
        Of the convolution; 0 where there is none.
    """

    architecture: str = "dense"
    patch: int = 0
    stride: int = 0

    @property
    def limit(self) -> AbstractLimit:
        sizes: dict[str, Any] = dict(particles=self.particles, replicates=self.replicates)
        if self.architecture == "dense":
            return TwoLayer(self.activation, **sizes)
        pooling: Any = self.architecture
        return Convolutional(self.activation, self.patch, self.stride, pooling, **sizes)

    @property
    def network(self) -> Network | ConvolutionalNetwork:
        if self.architecture == "dense":
            return Network(self.width, self.activation, tol=3e-3)
        pooling: Any = self.architecture
        return ConvolutionalNetwork(
            self.width, self.activation, self.patch, self.stride, pooling, tol=3e-3
        )

    @property
    def accuracy(self) -> str:
        said = super().accuracy
        if self.architecture == "dense":
            return said
        pooled = {"average": "their average", "root": "their sum over √Q"}[self.architecture]
        patches = f"patches of {self.patch} x {self.patch} pixels at stride {self.stride}"
        return f"a convolution, {patches}, pooled by {pooled}; {said}"


@dataclass(frozen=True, kw_only=True)
class Seen(Images, Architecture):
    """Images, and the networks that see them: convolutions see pixels in their places."""

    def load(self, seed: int) -> tuple[Task, Task]:
        return super().load(seed) if self.architecture == "dense" else self.load_pixels(seed)
