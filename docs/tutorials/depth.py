# %% [markdown]
# # Depth, and which layers to keep
#
# With several hidden layers there is a kernel in each, and a new question of transfer: which layers should the target
# keep, and should they go on training? Digits 0 and 1 are the source, 0 and 9 the target: the class 0 is shared.

# %%
import matplotlib.pyplot as plt
import numpy as np

import adaptik as ak
from adaptik.display.plots.style import STYLE, look
from adaptik.solution.observables import centred_alignment

plt.rcParams.update(STYLE)
source, target = ak.tasks.load_pair("digits:0,1", "digits:0,9", n_source=24, n_target=6, n_test=100)

# %% [markdown]
# ## One limit for every depth
#
# `Deep(depth, activation)` picks the method: exact for linear neurons, particles for one hidden layer, revealed
# directions or an ensemble of wide layers beyond. `choose` says which, before anything is computed;
# `cost.method` of every stage says why, afterwards.

# %%
stage = ak.Stage(source, richness=2.0, duration=5.0)
for depth, phi in [(1, "relu"), (2, "linear"), (2, "tanh"), (3, "relu")]:
    print(depth, phi, type(ak.Deep(depth, phi).choose([stage])).__name__)

# %% [markdown]
# Depth costs. An ensemble of three layers of 96 neurons in four replicates is enough for a picture; error bars say
# how good it is.

# %%
limit = ak.Ensemble(3, "relu", width=96, replicates=4)
pretrained = ak.solve([stage], limit, observe=[source, target])
pretrained.loss(source), pretrained.records[0].cost.method

# %% [markdown]
# ## Every layer has a kernel
#
# `kernel(X, layer=l)` is that of hidden layer l. Their alignment with the labels, before and after the source stage:

# %%
start = ak.solve([ak.Stage(source, richness=2.0, duration=1e-6)], limit)
X, y = source.X, source.y


def aligned(solution, layer):
    """Of each replicate."""
    state = solution.state()
    return solution.estimate(centred_alignment(state.layer_kernel(X, None, "feature", layer), y))


layers = [1, 2, 3]
figure, ax = plt.subplots(figsize=(5, 3.2), num="Alignment of each layer's kernel with the labels")
for i, (solution, name) in enumerate([(start, "before"), (pretrained, "after the source stage")]):
    values = [aligned(solution, layer) for layer in layers]
    bars = [float(v.standard_error) for v in values]
    ax.errorbar(layers, [float(v) for v in values], bars, capsize=3, label=name, **look(i))
ax.set(xlabel="hidden layer l", ylabel="alignment with labels (CKA)", xticks=layers, ylim=(0, 1))
ax.legend()
figure.tight_layout()

# %% [markdown]
# ## Which layers to keep
#
# `fresh_above=k` draws the layers above k anew, and the readout with them: `fresh_above=0` is training from scratch,
# `fresh_above=3` a fresh readout on all three layers. `trains=k` freezes the layers up to k; without it they go
# on training.

# %%
kept = [0, 1, 2, 3]
losses = {}
for name in ("frozen", "go on training"):
    for k in kept:
        trains = k if name == "frozen" else "all"
        after = ak.Stage(target, 1.0, duration=5.0, fresh_above=k, trains=trains)
        losses[name, k] = ak.solve([after], limit, after=pretrained).loss(target)
    print(name, [f"{float(losses[name, k]):.3f}" for k in kept])

# %%
figure, ax = plt.subplots(figsize=(5, 3.2), num="Target test loss over the number of layers kept")
for i, name in enumerate(("frozen", "go on training")):
    values = [losses[name, k] for k in kept]
    bars = [float(v.standard_error) for v in values]
    ax.errorbar(
        np.array(kept) + 0.06 * i,
        [float(v) for v in values],
        bars,
        capsize=3,
        label=f"kept layers {name}",
        **look(i),
    )
ax.set(xlabel="hidden layers kept from the source", ylabel="test loss on the target", xticks=kept)
ax.set_ylim(bottom=0)
ax.legend()
figure.tight_layout()

# %% [markdown]
# At k = 0 both are the network without a source. This is one draw of 24 and 6 images; [the gallery](../gallery.md#layers_to_keep)
# has four, with networks beside them. On this draw kept layers are worth having where they go on training, and freezing
# any of them costs; on the gallery's mean the first layer is worth freezing too. [Depth](../notes/depth.md) says how the limits are computed.

# %% [check]
same = losses["frozen", 0] - losses["go on training", 0]
assert abs(float(same)) < 1e-6
after_training = [float(aligned(pretrained, layer)) for layer in layers]
before = [float(aligned(start, layer)) for layer in layers]
assert all(a > b for a, b in zip(after_training, before, strict=True))
