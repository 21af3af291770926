"""What the reader of a study can do next, from what it found."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ...mathematics.outcome import Outcome
from ...transfer.options import TransferConfig

if TYPE_CHECKING:
    from ...transfer.study import Row, TransferStudy

MOST = 4  # steps: more are not read
APART = 3.0  # standard errors between theory and networks that want a second look
SPLITS = 40  # draws that anyone would wait for
HOW = {
    "readout": "then train only a readout on the target",
    "lazy": "then train all weights on the target lazily",
}
Step = tuple[str, str]


def command(config: Mapping[str, Any], **changes: Any) -> str:
    """The command line that computes a study, with some options changed.

    Examples
    --------
    >>> command({"source": "digits:1,4", "n_target": 8, "richness": [0.0, 2.0]}, splits=5)
    'adaptik transfer --source digits:1,4 --n-target 8 --richness 0,2 --splits 5'
    """
    given, typed = {**config, **changes}, ["adaptik", "transfer"]
    for field in fields(TransferConfig):
        value = given.get(field.name)
        if value is None or (value == field.default and field.name not in ("source", "target")):
            continue
        if isinstance(value, list | tuple):
            if tuple(value) == field.default:
                continue
            value = ",".join(f"{v:g}" for v in value)
        typed += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(typed)


def next_steps(study: "TransferStudy") -> list[Step]:
    """At most :data:`MOST` sentences, the most useful first, each with a command or none."""
    if not study.complete:
        return [("The study was interrupted: run it again.", command(study.config))]
    steps = [*_troubles(study), *_consequence(study), *_edges(study), *_evidence(study)]
    return steps[:MOST]


def _troubles(study: "TransferStudy") -> list[Step]:
    bad = [row for row in study.rows if row.outcome not in {o.value for o in Outcome if o.ok}]
    steps = []
    if bad:
        steps.append((f"Do not rely on {_listed(bad)}: {bad[0].outcome}.", ""))
    far = [
        r for r in study.rows if r.difference_in_se is not None and abs(r.difference_in_se) > APART
    ]
    if far:
        wider = 2 * int(study.config.get("check_width", TransferConfig.check_width))
        said = (
            f"Networks differ from the theory by more than {APART:g} standard errors at "
            f"{_listed(far)}: ask wider ones, which come closer to infinite width."
        )
        steps.append((said, command(study.config, check_width=wider)))
    return steps


def _consequence(study: "TransferStudy") -> list[Step]:
    verdict, names = study.verdict, {t: d.get("name", t) for t, d in study.tasks.items()}
    source, target = (names.get(side, side) for side in ("source", "target"))
    if verdict.gain is None:
        return []
    if verdict.helps is False:
        return [(f"Train {target} from scratch, or try a source that is closer to it.", "")]
    if verdict.helps is None:
        return _narrower(study)
    how = "then train on the target"
    if verdict.mode in HOW:
        how = HOW[verdict.mode]
    elif verdict.target_richness is not None:
        how = f"then train all weights at richness {verdict.target_richness:g}"
    kind = "Classifier" if study.tasks.get("target", {}).get("classes") else "Regressor"
    rich = f", richness={verdict.target_richness:g}" if verdict.mode == "rich" else ""
    where = (verdict.mode, verdict.source_richness, verdict.target_richness)
    chosen = [r for r in study.rows if (r.mode, r.source_richness, r.target_richness) == where]
    early = study.config.get("stopping") == "refits" and chosen and math.isfinite(chosen[0].stop)
    time = f", duration={chosen[0].stop:.3g}" if early else ""
    kept = ', head="kept"' if study.config.get("head") == "kept" else ""
    line = (
        f'TransferKernel{kind}((X_source, y_source), mode="{verdict.mode}", '
        f"source_richness={verdict.source_richness:g}{rich}{kept}{time}).fit(X, y)"
    )
    return [
        (f"Pretrain on {source} at richness {verdict.source_richness:g}, {how}. In Python:", line)
    ]


def _narrower(study: "TransferStudy") -> list[Step]:
    """How many draws of the data would tell a difference of this size from none."""
    gain, error = study.verdict.gain, study.verdict.gain_se
    splits = int(study.config.get("splits", 1))
    if not gain or not error:
        return []
    needed = splits * max(2.0, (2.5 * error / abs(gain)) ** 2)
    if needed > SPLITS:
        said = (
            "The difference is small beside its error: choose by cost, which means from scratch, "
            "or ask with more target samples."
        )
        return [(said, "")]
    said = "More draws of the data narrow the error; about as many would tell:"
    return [(said, command(study.config, splits=max(int(needed + 0.5), splits + 1)))]


def _edges(study: "TransferStudy") -> list[Step]:
    """The best richness may lie beyond what was tried."""
    richness = sorted(study.config.get("richness") or [])
    best = study.verdict.source_richness
    if study.verdict.helps is False or len(richness) < 2 or best != richness[-1] or not best:
        return []
    said = f"The best richness is the largest that was tried, {best:g}: go on beyond it."
    return [(said, command(study.config, richness=[best, 2 * best, 4 * best]))]


def _evidence(study: "TransferStudy") -> list[Step]:
    steps = []
    if study.config.get("check_seeds") == 0:
        said = "No network has checked the theory: ask some."
        steps.append((said, command(study.config, check_seeds=TransferConfig.check_seeds)))
    if study.config.get("splits") == 1 and study.verdict.helps is not None:
        said = "All this is of one draw of the data; several tell how much it depends on the draw."
        steps.append((said, command(study.config, splits=4)))
    return steps


def _listed(rows: "list[Row]") -> str:
    first = rows[0]
    where = "" if first.source_richness is None else f" at γ₁ = {first.source_richness:g}"
    more = "" if len(rows) == 1 else f" and {len(rows) - 1} more"
    return f"{first.mode}{where}{more}"
