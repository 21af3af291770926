# %% [markdown]
# # Posteriors, and an elastic pull
#
# Gradient flow ends in one network. Noisy training with weight decay samples many: the posterior
#
# $$
# p(\theta) \propto \exp\Big( -\frac{N \gamma^2}{2T} \sum_\mu |y_\mu - f_\mu|^2 - \frac{|\theta|^2}{2} \Big)
# $$
#
# of a network of width N. Its limit learns features as well, and it offers a dial between starting over and
# keeping what was learned: an elastic pull δ of the weights towards a sample of the source's posterior.

# %%
import matplotlib.pyplot as plt
import numpy as np

import adaptik as ak
from adaptik.display.plots.style import STYLE, look

plt.rcParams.update(STYLE)
counts = dict(n_source=40, n_target=6, n_test=200)
related = ak.tasks.load_pair("digits:1,4", "digits:1,7", **counts)
unrelated = ak.tasks.load_pair("digits:0,5", "digits:1,7", **counts)

# %% [markdown]
# ## Linear neurons: an exact answer in milliseconds
#
# `BayesianLinear` is the closed form. A stage with `elastic=δ` is pulled towards the stage before it: δ = 0 starts over,
# δ → ∞ keeps the features and learns a readout (`trains="readout"`).

# %%
delta = np.concatenate([[0.0], np.geomspace(0.1, 1e5, 13)])


def curve(pair, temperature=0.02, richness=1.5):
    """Target test loss over the pull."""
    source, target = pair
    limit = ak.BayesianLinear(temperature=temperature)
    pretrained = ak.solve([ak.Stage(source, richness)], limit, observe=[target])
    pulled = [ak.Stage(target, richness, elastic=d) for d in delta]
    return [float(ak.solve([s], limit, after=pretrained).loss(target)) for s in pulled]


losses = {"1 against 4 (related)": curve(related), "0 against 5 (unrelated)": curve(unrelated)}
figure, ax = plt.subplots(figsize=(5.4, 3.3), num="Target test loss over the elastic pull")
for i, (name, values) in enumerate(losses.items()):
    ax.plot(delta, np.array(values) / values[0], ms=4, label=f"source: {name}", **look(i))
ax.set_xscale("symlog", linthresh=0.1)
ax.set(xlabel="elastic pull δ", ylabel="test loss / that of starting over", ylim=(0, 1.1))
ax.set_xticks([0, 0.1, 1e1, 1e3, 1e5], ["0", "0.1", "10", "10³", "10⁵"])
ax.minorticks_off()
ax.legend(loc="lower left")
figure.tight_layout()
for name, values in losses.items():
    best = np.argmin(values)
    print(f"{name}: {values[0]:.3f} from scratch, {values[best]:.3f} at δ = {delta[best]:.3g}")

# %% [markdown]
# The pull to features that know the digit 1 helps more than the pull to others. Six images of the target, and no
# sampling error; but the draw of the data is one, and other draws differ
# ([the gallery](../gallery.md#pull_helps_related_tasks) has three, and networks beside them).
#
# ## Temperature is a ridge
#
# The predictor is kernel regression on the adapted kernel, f(x) = Φ(x, ·) (Φ + T)⁻¹ y, with T as its ridge.

# %%
source, target = related
temperatures = np.geomspace(1e-3, 10, 9)
ridge = [
    ak.solve([ak.Stage(target, 1.5)], ak.BayesianLinear(temperature=t)).loss(target)
    for t in temperatures
]
figure, ax = plt.subplots(
    figsize=(5, 3), num="Target test loss without a source over the temperature"
)
ax.plot(temperatures, [float(v) for v in ridge], ms=4, **look(0))
ax.set(xscale="log", xlabel="temperature T", ylabel="test loss, no source", ylim=(0, None))
figure.tight_layout()

# %% [markdown]
# ## Other neurons: particles, and networks beside them
#
# `Bayesian` takes any activation that grows at most linearly and samples the law of single neurons;
# `sample_posterior` samples the weights of a finite network. They share nothing but the integrator.

# %%
source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=10, n_target=4, n_test=100)
stages = [ak.Stage(source, 1.0), ak.Stage(target, 1.0, elastic=1.0)]
theory = ak.solve(stages, ak.Bayesian("tanh", temperature=0.05, particles=512, replicates=2))
network = ak.sample_posterior(
    stages, ak.Network(300, "tanh"), temperature=0.05, warmup=60, samples=60
)
theory.loss(target), network.loss(target), theory.outcome.value, network.outcome.value

# %%
f, g = theory.predict(target.X_test), network.predict(target.X_test)
figure, ax = plt.subplots(
    figsize=(3.8, 3.6), num="Predictions of sampled networks against those of the limit"
)
ax.errorbar(
    f.value,
    g.value,
    g.standard_error,
    f.standard_error,
    ls="",
    marker=".",
    color=look(0)["color"],
    lw=0.6,
)
ends = np.array([f.value.min(), f.value.max()])
ax.plot(ends, ends, color="0.45", lw=1)
ax.set(xlabel="infinite width", ylabel="networks of width 300, two chains", aspect="equal")
figure.tight_layout()

# %% [markdown]
# Bars are over two replicates of the limit and two chains of networks. The chains of 60 samples are short: the outcome
# says that their R-hat is above 1.05, and predictions agree nonetheless. `states[i]` holds R-hat, effective samples, and
# the residual of the limit. [Posteriors](../notes/bayesian.md) has the comparisons at larger size.

# %% [check]
assert losses["1 against 4 (related)"][-1] < losses["1 against 4 (related)"][0]
assert np.corrcoef(f.value, g.value)[0, 1] > 0.98
