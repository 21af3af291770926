# %% [markdown]
# # Richness, and kernels that move
#
# One number decides how far the features of an infinitely wide network move while it learns: its *richness* γ. At γ = 0
# nothing moves, and training is regression with a fixed kernel, the neural tangent kernel. The larger γ, the more
# the hidden neurons turn towards what the labels ask for, and the kernel with them. This page watches it happen.

# %%
import matplotlib.pyplot as plt
import numpy as np

import adaptik as ak
from adaptik.display.plots.style import STYLE, look, shades

plt.rcParams.update(STYLE)
source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=40, n_target=10)
source.X.shape, target.X.shape, source.classes

# %% [markdown]
# ## One task, several richness values
#
# `solve` runs gradient flow to convergence. Time is recorded from the stage's start; `losses` has one column a
# replicate of the particle system, whose spread is the error bar.

# %%
richness = [0.0, 0.5, 2.0, 8.0]
limit = ak.TwoLayer("relu", particles=256, replicates=4)
solved = [ak.solve([ak.Stage(source, g)], limit) for g in richness]
for g, solution in zip(richness, solved, strict=True):
    print(f"γ = {g:3g}: test loss {solution.loss(source)}, {solution.outcome.value}")

# %% [markdown]
# ## The kernel turns towards the labels
#
# `kernel(X, kind="feature")` is Φ(x, x') = ⟨φ(h(x)) φ(h(x'))⟩, the overlap of hidden features. Sorted by class, a
# kernel that knows the labels is two blocks.

# %%
order = np.argsort(source.y[:, 0], kind="stable")
X = source.X[order]
figure, axes = plt.subplots(
    1, 4, figsize=(9.5, 2.7), num="Feature kernels after training, at four values of the richness"
)
for ax, g, solution in zip(axes, richness, solved, strict=True):
    phi = solution.kernel(X).value
    scale = np.sqrt(np.outer(np.diag(phi), np.diag(phi)))
    image = ax.imshow(phi / scale, vmin=0, vmax=1, cmap="viridis")
    ax.set(title=f"γ = {g:g}", xticks=[], yticks=[], xlabel="samples, by class")
figure.colorbar(image, ax=axes, label="cosine of features", fraction=0.02)

# %% [markdown]
# How well it knows them is the centred alignment (CKA) of the kernel with the outer product of the labels: 1 would be
# two perfect blocks. It can be asked for the task that was learned, and for another one, the target of a transfer:

# %%
from adaptik.solution.observables import alignment

figure, ax = plt.subplots(figsize=(5, 3.2), num="Alignment of the kernel with labels over richness")
for i, (task, name) in enumerate(
    [(source, "the task learned, 1 against 4"), (target, "another, 1 against 7")]
):
    values = [alignment(s, task, split="train") for s in solved]
    ax.errorbar(
        richness,
        [float(v) for v in values],
        [float(v.standard_error) for v in values],
        capsize=3,
        label=name,
        **look(i),
    )
ax.set_xscale("symlog", linthresh=0.5)
ax.set(xlabel="richness γ", ylabel="alignment with labels (CKA)", xticks=richness, ylim=(0, 1))
ax.set_xticklabels([f"{g:g}" for g in richness])
ax.minorticks_off()
ax.legend()
figure.tight_layout()

# %% [markdown]
# The kernel aligns with the labels that it learned, and a little with those of the other task, since both share the
# digit 1. This is what a pretrained network hands on. Errors over replicates are smaller than the markers.
#
# ## What the neurons do
#
# A preactivation h(x) of a hidden neuron is Gaussian at the start. Rich training takes its law away from the Gaussian.

# %%
figure, ax = plt.subplots(figsize=(5, 3.2), num="Density of preactivations for one image")
x = source.X_test[:1]
for g, solution, colour in zip(richness, solved, shades(4), strict=True):
    h = solution.preactivations(x).ravel()
    grid = np.linspace(-5, 9, 60)
    density, edges = np.histogram(h, bins=grid, density=True)
    ax.stairs(density, edges, color=colour, label=f"γ = {g:g}")
ax.set(xlabel="preactivation h(x)", ylabel="density p(h)")
ax.legend()
figure.tight_layout()

# %% [markdown]
# ## Does it help on the other task?
#
# A stage after a stage. With a fresh readout and richness 0, the target is learned by regression with the kernel
# that the source left behind.

# %%
losses = []
for g in richness:
    stages = [ak.Stage(source, g), ak.Stage(target, 0.0, head="fresh")]
    losses.append(ak.solve(stages, limit).loss(target))
    print(f"source richness {g:3g}: target test loss {losses[-1]}")

# %% [markdown]
# A rich source lowers the target's loss here, and the richest is not the best. The errors are those of the theory's
# sampling, on one draw of the data. Over draws of the data the answer varies by
# more: `adaptik transfer --splits` averages over them, and says so ([a first transfer](first_transfer.md)).

# %% [check]
aligned = [float(alignment(s, source, split="train")) for s in solved]
assert aligned == sorted(aligned) and aligned[-1] > aligned[0] + 0.1
other = [float(alignment(s, target, split="train")) for s in solved]
assert other[-1] > other[0]
assert float(losses[0]) > float(losses[1]) > float(losses[2]) < float(losses[3])
