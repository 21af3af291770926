"""The pictures of a study's page, with what they show in words."""

from typing import TYPE_CHECKING

import matplotlib as mpl

from ..plots.learning import learning_panels
from ..plots.study import alignment, forgetting, kernels, loss_against_richness, single
from ..plots.style import STYLE
from .chart import chart
from .html import section

if TYPE_CHECKING:
    from ...transfer.study import TransferStudy

ANSWER = (
    "Target test loss against source richness: below the grey lines (no pretraining) pretraining "
    "helps. Bars: one s.e. of solver or seeds; bands: of the test set, shared by all points."
)
CURVES = (
    "Test loss on {task} while each stage trains{first}. Lines are infinite width, circles finite "
    "networks; bands and bars are one standard error. The theory's losses are unbiased "
    "estimates, which can fall below 0 by about their error."
)
KERNELS = (
    "Kernel between the target's training samples, sorted by class{first}: blocks that stand out "
    "are classes that the features tell apart. Both maps share one colour scale."
)
ALIGNMENT = (
    "Centred kernel alignment with the target's labels{first}: 1 is a kernel made for the task, 0 "
    "unrelated."
)
FORGETTING = "Source test loss before training on the target, and after it: the rise is forgetting."


def answer(study: "TransferStudy") -> str:
    """The one picture of the first screen."""
    if not study.rows:
        return ""
    figure = single(loss_against_richness, study.rows, (5.6, 3.9))
    return chart("Target test loss", ANSWER, [figure], "test loss against source richness", 0)


def learned(study: "TransferStudy") -> str:
    """Learning curves of both tasks."""
    charts = []
    for task in ("target", "source"):
        if panels := learning_panels(study, task):
            caption = CURVES.format(task=f"the {task}", first=_first(study))
            title = f"Loss on the {task}"
            charts.append(chart(title, caption, panels, f"learning curves on the {task}", 3))
    return section("Learning curves", "".join(charts)) if charts else ""


def kernel_maps(study: "TransferStudy") -> str:
    """The target's kernel before and after."""
    if not study.kernels:
        return ""
    with mpl.rc_context(STYLE):
        shown = [kernels(study.kernels, study.config.get("kernel_richness"))]
    caption = KERNELS.format(first=_first(study))
    return chart("What the network learned", caption, shown, "kernels before and after")


def sides(study: "TransferStudy") -> list[str]:
    """Alignment and forgetting."""
    parts, first = [], _first(study)
    if any(study.alignments.values()):
        shown = [single(alignment, study.alignments)]
        caption = ALIGNMENT.format(first=first)
        parts.append(chart("Kernel alignment", caption, shown, "alignment against richness"))
    known = [r for r in study.rows if r.source_loss_after is not None]
    if any(r.source_loss_after == r.source_loss_after for r in known):
        shown = [single(forgetting, study.rows)]
        said = "source loss against richness"
        parts.append(chart("Forgetting", FORGETTING, shown, said))
    return parts


def _first(study: "TransferStudy") -> str:
    splits = study.config.get("splits", 1)
    return f", in the first of the {splits} draws of the data alone" if splits > 1 else ""
