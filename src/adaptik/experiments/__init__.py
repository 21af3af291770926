"""Findings of the paper, and ours beyond it: one a file, each computed, drawn and judged.

Folders are subjects; a finding is known by its name alone.

Nothing heavy is imported before an experiment is loaded.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..system.errors import InputError

if TYPE_CHECKING:
    from .finding import Finding

__all__ = ["EXPERIMENTS", "Entry", "find"]


@dataclass(frozen=True)
class Entry:
    """One experiment of the registry.

    Attributes
    ----------
    subject
        What it is about: the folder of its module.
    name
        Of its module, named for the finding.
    figure
        Of the paper; empty for what goes beyond it.
    claim
        What the experiment tests, in one line.

    Examples
    --------
    >>> entry = find("fig1a")
    >>> entry.subject, entry.name, entry.load().__name__
    ('linear', 'aligned_source_helps', 'adaptik.experiments.linear.aligned_source_helps')
    """

    subject: str
    name: str
    figure: str
    claim: str

    def load(self) -> "Finding":
        """Import the experiment's module."""
        finding: Finding = import_module(f".{self.subject}.{self.name}", __name__)  # pyright: ignore[reportAssignmentType]
        return finding


EXPERIMENTS = (
    Entry(
        "linear",
        "aligned_source_helps",
        "fig1a",
        "after abundant source data the target loss falls with the alignment of the teachers",
    ),
    Entry(
        "linear",
        "more_source_data_help",
        "fig1b",
        "the target loss falls with the number of source samples",
    ),
    Entry(
        "linear",
        "over_rich_source",
        "fig1c",
        "in the over-rich limit only the overlap with the learned direction counts",
    ),
    Entry(
        "linear",
        "richer_source_helps",
        "fig2a",
        "the target loss of linear networks falls with the richness of the source stage",
    ),
    Entry(
        "images",
        "rich_features_need_fewer_images",
        "fig2b",
        "fine-tuning on few images works better on richer source features",
    ),
    Entry(
        "images",
        "gain_fades_with_target_data",
        "fig2c",
        "the gain from rich source features fades as target images become many",
    ),
    Entry(
        "polynomials",
        "easy_before_hard",
        "fig3a",
        "an easy polynomial learned first lowers the final loss on a hard one",
    ),
    Entry(
        "polynomials",
        "hard_before_easy",
        "fig3b",
        "a hard polynomial learned first does not lower the final loss on an easy one",
    ),
    Entry(
        "images",
        "rich_targets_want_early_stopping",
        "fig4",
        "rich target stages on images have an optimal stopping time",
    ),
    Entry(
        "images",
        "preactivations_leave_the_gaussian",
        "fig5",
        "preactivations on the target depart from a Gaussian as its richness grows",
    ),
    Entry(
        "posteriors",
        "pull_helps_related_tasks",
        "appB",
        "an elastic pull to the source's posterior helps related tasks and hurts unrelated ones",
    ),
    Entry(
        "posteriors",
        "pull_on_images",
        "",
        "an elastic pull turns the target's kernel on images from scratch's into the source's",
    ),
    Entry(
        "posteriors",
        "pull_on_polynomials",
        "",
        "rich posteriors on polynomials gain from an elastic pull where teachers are related",
    ),
    Entry(
        "polynomials",
        "polynomial_source_data",
        "",
        "frozen features help on a polynomial after abundant, less after limited source data",
    ),
    Entry(
        "linear",
        "anisotropic_noise_hurts",
        "",
        "with anisotropic inputs and a noisy source, transfer of identical tasks can hurt",
    ),
    Entry(
        "linear",
        "spikes_that_hurt",
        "",
        "only kernels that no gradient flow leaves hurt a fresh head: crosstalk beyond one spike's",
    ),
    Entry(
        "linear",
        "target_wants_longer_source",
        "",
        "a noisy source is best trained longer, with less ridge, for the target than for itself",
    ),
    Entry(
        "polynomials",
        "when_to_switch",
        "",
        "a noisy source has an optimal duration: neither none nor the longest",
    ),
    Entry(
        "polynomials",
        "curriculum_of_three",
        "",
        "degrees 1, 2, 3 in this order lower the final loss on degree 3 below training it alone",
    ),
    Entry(
        "polynomials",
        "few_directions",
        "",
        "a rich target stage along few directions stays above one along all, more than a lazy one",
    ),
    Entry(
        "polynomials",
        "long_pretraining",
        "",
        "long pretraining slows a low-rank target stage, and more than a full one",
    ),
    Entry(
        "polynomials",
        "fast_readouts_forget",
        "",
        "a slow readout forgets less of the source and learns the target better than a fast one",
    ),
    Entry(
        "polynomials",
        "small_scales_refine",
        "",
        "at a small initial scale of the first layer rich targets both reuse and refine features",
    ),
    Entry(
        "polynomials",
        "joint_or_sequential",
        "",
        "a source learned together with the target helps more than one learned before it",
    ),
    Entry(
        "polynomials",
        "shared_directions",
        "",
        "of a teacher of several directions pretraining brings those that both tasks see",
    ),
    Entry(
        "images",
        "readout_beats_lazy",
        "",
        "of rich features, the readout alone fine-tunes better than all weights lazily",
    ),
    Entry(
        "images",
        "layers_to_keep",
        "",
        "of rich features for a related task, lower layers are worth freezing, upper ones are not",
    ),
    Entry(
        "images",
        "few_directions_of_images",
        "",
        "on images too a rich target stage needs many directions, more than a lazy one",
    ),
    Entry(
        "images",
        "local_features",
        "",
        "pretraining helps more where features are local: a convolution against dense networks",
    ),
)


def find(text: str) -> Entry:
    """The experiment of a name, or of a figure of the paper.

    Raises
    ------
    InputError
        For an unknown one.

    Examples
    --------
    >>> find("fig3a").name
    'easy_before_hard'
    """
    for entry in EXPERIMENTS:
        if text and text in (entry.name, entry.figure):
            return entry
    known = [f"{e.figure} ({e.name})" if e.figure else e.name for e in EXPERIMENTS]
    raise InputError(f"figure {text!r} is unknown; use one of {', '.join(known)}")
