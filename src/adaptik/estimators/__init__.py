"""Infinitely wide networks as scikit-learn estimators; needs an explicit ``import``.

``AdaptiveKernelRegressor`` and ``AdaptiveKernelClassifier`` learn one task. The transfer estimators
pretrain on a source first: a fitted estimator, or its data. Everything is computed by
:func:`adaptik.solve`; here are only scikit-learn's conventions, the scales of inputs and labels,
and the choice of the richness.

Inputs are centred, scaled to mean ``|x|^2 = D`` (by a source's statistics where there is one) and
get a constant coordinate, the bias of the first layer. Real labels are standardised, output by
output; two classes are -1 and +1, more are one-hot, centred, in a unit where predicting shares has
loss 1 (:func:`adaptik.tasks.standardise_labels`).
"""

from .adaptive import AdaptiveKernelClassifier, AdaptiveKernelRegressor
from .transfer import TransferKernelClassifier, TransferKernelRegressor

__all__ = [
    "AdaptiveKernelClassifier",
    "AdaptiveKernelRegressor",
    "TransferKernelClassifier",
    "TransferKernelRegressor",
]
