# %% [markdown]
# # A first transfer, on a table of your own
#
# You have learned to tell two kinds of wine apart by their chemistry, and a third kind arrives: four bottles of it, and
# four of a kind that you know, are labelled. Does what was learned help to tell those apart? This page asks with the wine
# data that ship with scikit-learn (178 bottles of three cultivars, 13 measurements); put two files of your own in their
# place.
#
# ## Two files
#
# A table is a file with one row a sample and one column a feature. The label is the column called `label`, else
# the last one. Columns are matched by their names.

# %%
from pathlib import Path
from tempfile import mkdtemp

from sklearn.datasets import load_wine

folder = Path(mkdtemp())
table = load_wine(as_frame=True).frame.rename(columns={"target": "label"})
table["label"] = table.label.map({0: "first", 1: "second", 2: "third"})
known = table[table.label != "third"]
new = table[table.label != "second"]
known.to_csv(folder / "known.csv", index=False)
new.to_csv(folder / "new.csv", index=False)
len(known), len(new)

# %% [markdown]
# ## The question
#
# On the command line this is
#
#     adaptik transfer --source known.csv --target new.csv --n-target 8 --out report
#
# and the same from Python, with two values of the source's richness, three draws of the data, and networks of finite
# width beside the theory:

# %%
from adaptik.transfer import TransferConfig, run

config = TransferConfig(
    source=str(folder / "known.csv"),
    target=str(folder / "new.csv"),
    n_source=60,
    n_target=8,
    richness=(0.0, 2.0),
    target_richness=(0.0,),
    splits=3,
    folds=2,
    particles=256,
    check_seeds=2,
    check_width=512,
)
study = run(config)
print(study.verdict.sentence.replace(str(folder) + "/", ""))

# %% [markdown]
# The sentence compares the best model that has seen the source with the best one that has not. Both were chosen
# by refits on the target's eight labelled bottles; the test bottles were looked at once, for the sentence.
#
# *Unclear* is an answer. Three draws of the data do not tell whether the loss rises or falls; more of them (`splits`)
# make it sharper. `make demo` asks a question whose answer is clear.
#
# ## The rows behind it
#
# Losses are mean squared errors of labels -1 and +1: 1 is what predicting 0 gets.

# %%
for row in study.rows:
    source = "no source" if row.mode == "scratch" else f"source richness {row.source_richness:g}"
    print(
        f"{row.mode:8s} {source:18s} loss {row.test_loss:.3f} ± {row.sampling_se:.3f}"
        f"   networks {row.network_test_loss:.3f}   accuracy {row.accuracy:.3f}"
    )

# %% [markdown]
# `scratch` starts from random weights. `readout` keeps the source's features and trains a readout, `lazy` trains all
# weights linearly around them. A lazy source (richness 0) never moves its features, so that its `readout` row is a
# random-feature model. The error is over draws of the data; networks of width 512, trained on the same data, stand
# beside each row, and agree with it. Every row tells all test bottles or nearly all apart: eight labelled ones are enough for these two
# kinds, with a source or without, which is why there is little to gain.

# %%
import matplotlib.pyplot as plt

from adaptik.display.plots.style import STYLE, look

plt.rcParams.update(STYLE)
figure, ax = plt.subplots(figsize=(6, 3.2), num="Test loss of every row, theory beside networks")
for i, row in enumerate(study.rows):
    name = row.mode if row.mode == "scratch" else f"{row.mode}\nγ₁ = {row.source_richness:g}"
    ax.errorbar(i, row.test_loss, row.sampling_se, capsize=3, ms=7, **look(0))
    error = row.network_test_loss_se
    ax.errorbar(i + 0.15, row.network_test_loss, error, capsize=3, ms=6, mfc="none", **look(1))
    ax.text(i, -0.04, name, ha="center", va="top", transform=ax.get_xaxis_transform(), fontsize=9)
ax.set(xticks=[], ylabel="test loss", xlim=(-0.5, len(study.rows) - 0.4))
ax.set_ylim(bottom=0)
ax.plot([], [], **look(0), ls="", label="infinite width, ± over draws of the data")
ax.plot([], [], **look(1), mfc="none", ls="", label="networks of width 512, ± over seeds")
ax.legend(loc="lower left")
figure.tight_layout()

# %% [markdown]
# ## Next
#
# - `--out report` writes all of this into one page, `report.html`, with learning curves and kernels.
# - What happened to columns and labels stands in `study.notes`, and in [Data](../data.md).
# - For a model that predicts, take an estimator: [Estimators](../estimators.md).
# - Which richness, how many particles, which mode: [How to choose](../choose.md).

# %%
for note in study.notes:
    print("-", note.replace(str(folder) + "/", ""))

# %% [check]
import shutil

shutil.rmtree(folder)
assert study.complete and study.verdict.gain is not None
