# %% [markdown]
# # A sweep on a Dask cluster
#
# How do source richness and the number of target samples play together? That is a grid of cases, each a study of its
# own. `sweep` computes a function at every point of a grid, keeps what it returns on disk, goes on where it stopped,
# and runs on the workers of a Dask cluster where there is one (`pip install 'adaptik[distributed]'`).
#
# ## A cluster
#
# Here a small one on this machine; on a real one only the address differs. In a script of your own this line stands
# below `if __name__ == "__main__":`, since workers import the script.

# %%
from dask.distributed import LocalCluster

cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
cluster.scheduler_address.split("://")[0], len(cluster.workers)

# %% [markdown]
# ## A grid
#
# `transfer_point` is one case: a source, a target, and what the target stage does. Its arguments that vary are axes,
# the others are fixed.

# %%
from pathlib import Path
from tempfile import mkdtemp

from adaptik import sweeps
from adaptik.transfer import transfer_point

store = Path(mkdtemp()) / "richness"
grid = {"source_richness": [0.0, 1.0, 4.0], "n_target": [8, 24], "split": [0, 1, 2]}
fixed = dict(
    source="digits:1,4", target="digits:1,7", mode="readout", n_source=40, n_test=100, particles=256
)
data = sweeps.sweep(
    transfer_point, grid, fixed=fixed, store=store, executor=cluster.scheduler_address
)
print(data.loss.round(3).sel(n_target=8).to_pandas())

# %% [markdown]
# A case that raises is recorded with its error, and the others go on. Had the computer stopped in the middle, the
# same call would compute what is missing, and nothing else:

# %%
import time

began = time.perf_counter()
again = sweeps.sweep(
    transfer_point, grid, fixed=fixed, store=store, executor=cluster.scheduler_address
)
again.equals(data), time.perf_counter() - began < 5

# %%
cluster.close()

# %% [markdown]
# ## What came out
#
# An `xarray.Dataset` with the axes of the grid as dimensions: means and errors are a line each.

# %%
import matplotlib.pyplot as plt
import numpy as np

from adaptik.display.plots.style import STYLE, look

plt.rcParams.update(STYLE)
data = sweeps.load(store)
ratio = data.loss / data.loss.sel(source_richness=0.0)
mean, error = ratio.mean("split"), ratio.std("split", ddof=1) / np.sqrt(ratio.sizes["split"])
figure, ax = plt.subplots(
    figsize=(5, 3.2), num="Target loss over source richness, relative to a lazy source"
)
for i, n in enumerate(grid["n_target"]):
    values, bars = mean.sel(n_target=n), error.sel(n_target=n)
    ax.errorbar(
        grid["source_richness"], values, bars, capsize=3, label=f"{n} target samples", **look(i)
    )
ax.axhline(1.0, color="0.6", lw=0.8, ls=":")
ax.set_xscale("symlog", linthresh=1)
ax.set_xticks(grid["source_richness"], [f"{g:g}" for g in grid["source_richness"]])
ax.minorticks_off()
ax.set(xlabel="source richness γ₁", ylabel="test loss / that of a lazy source")
ax.legend()
figure.tight_layout()

# %% [markdown]
# Every draw of the data is divided by its own lazy case, so that what all draws share drops out of the error, which is
# over three draws. Below 1, rich features of the source help a readout on the target: with 8 samples at richness 1 they do
# on every draw, with 24 they make no clear difference.
#
# ## The same from a file
#
# `adaptik sweep richness.toml` runs the grid of a file, `adaptik report richness` makes a page of a store, finished
# or not. [Sweeps](../sweeps.md) says what a store holds, what it does with failures, and what it costs.

# %% [check]
import shutil

shutil.rmtree(store.parent)
assert dict(data.sizes)["split"] == 3 and bool((data.status == 1).all())
assert again.equals(data)
