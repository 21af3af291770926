# %% [markdown]
# # Theory beside networks
#
# `solve` answers for infinite width and shares no code with `train`, which trains real networks by the same gradient
# flow. Both return the same type, so that each checks the other. Three questions: do they agree, how fast do networks
# approach the limit, and what are the error bars?

# %%
import matplotlib.pyplot as plt
import numpy as np

import adaptik as ak
from adaptik.display.plots.style import STYLE, look

plt.rcParams.update(STYLE)
source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=20, n_target=8, n_test=60)
stages = [ak.Stage(source, richness=2.0), ak.Stage(target, richness=1.0, head="fresh")]
theory = ak.solve(stages, ak.TwoLayer("relu", particles=256, replicates=4), record=60)
theory.loss(target)

# %% [markdown]
# `timed_stages` are the same stages with the durations that the theory took to converge: networks train equally long.

# %%
widths = [32, 128, 512]
seeds = range(4)
networks = [ak.train(theory.timed_stages, ak.Network(n, "relu"), seeds=seeds) for n in widths]
for width, network in zip(widths, networks, strict=True):
    print(
        f"width {width:4d}: loss {network.loss(target)}, theory less network in standard errors: "
        f"{float((theory.loss(target) - network.loss(target)).in_standard_errors):.1f}"
    )

# %% [markdown]
# ## Curves over both stages
#
# Losses are recorded over time, for every stage and for both tasks. The band and the bars are standard errors.

# %%
figure, axes = plt.subplots(
    1, 2, figsize=(8.5, 3.2), sharey=True, num="Target test loss over time in both stages"
)
for i, (ax, name) in enumerate(zip(axes, ["source stage", "target stage"], strict=True)):
    times = theory.records[i].times[1:]  # the first is 0, which has no logarithm
    curve = theory.estimate(theory.losses(target, stage=i)[1:].T)
    ax.plot(times, curve.value, color=look(0)["color"], label="infinite width")
    low, high = curve.value - curve.standard_error, curve.value + curve.standard_error
    ax.fill_between(times, low, high, color=look(0)["color"], alpha=0.25, lw=0)
    for k, (width, network) in enumerate(zip(widths, networks, strict=True), 1):
        found = network.estimate(network.losses(target, stage=i).T)
        at = slice(1, None, max(1, len(network.records[i].times) // 8))
        ax.errorbar(
            network.records[i].times[at],
            found.value[at],
            found.standard_error[at],
            ls="",
            ms=4,
            mfc="none",
            label=f"width {width}, {len(seeds)} seeds",
            **look(k),
        )
    ax.set(xlabel="time t of gradient flow", title=name, xscale="log")
axes[0].set_ylabel("test loss on the target")
axes[1].legend()
figure.tight_layout()

# %% [markdown]
# In the source stage nothing of the target is learned, and yet its loss moves: the tasks share the digit 1. A fresh
# readout starts the target stage at loss 1.
#
# ## How fast networks come
#
# A single network differs from the limit by fluctuations of order width^(-1/2). The loss of a single network is
# therefore higher, by the variance of its predictor, of order 1/width.

# %%
f = np.asarray(theory.predict(target.X_test))
apart = []
for network in networks:
    each = network.predictions(target)[-1][..., 0] - f  # (seeds, test samples)
    rms = np.sqrt(np.mean(each**2, axis=1))
    apart.append((rms.mean(), rms.std(ddof=1) / np.sqrt(len(rms))))
apart = np.array(apart)
slope = np.polyfit(np.log(widths), np.log(apart[:, 0]), 1)[0]
figure, ax = plt.subplots(
    figsize=(5, 3.2), num="Distance of single networks to the limit over width"
)
ax.errorbar(widths, apart[:, 0], apart[:, 1], capsize=3, ls="", **look(1), label="single networks")
line = apart[0, 0] * np.sqrt(widths[0] / np.array(widths))
ax.plot(widths, line, color="0.45", ls="--", label="width$^{-1/2}$")
ax.set(xscale="log", yscale="log", xlabel="width N", ylabel="rms difference of predictions")
ax.set_xticks(widths, [str(n) for n in widths])
ax.minorticks_off()
ax.legend()
figure.tight_layout()
print(f"slope {slope:.2f}")

# %% [markdown]
# ## What error bars mean
#
# - Of the theory: the spread of `replicates` independent particle systems. `sampling_error` is that of predictions; ask
#   `solve(stages, limit, tol=0.01)` and as many particles are taken as it needs.
# - Of networks: the spread over seeds.
# - Neither contains the draw of the data. Use several (`split` of `transfer_point`, `--splits` on the command line).

# %%
theory.sampling_error, theory.members, networks[0].members

# %% [check]
assert -0.75 < slope < -0.25
assert np.all(np.diff(apart[:, 0]) < 0)
