import subprocess
import sys
from importlib.util import find_spec

from adaptik.system.moved import MOVED

PROBE = """
import sys
import adaptik
assert "jax" not in sys.modules, "import adaptik loads JAX before anything is asked of it"
for name in adaptik.__all__:
    assert getattr(adaptik, name) is not None and name in dir(adaptik)
from adaptik.transfer_point import transfer_point
from adaptik.stepping.flow import Integration
import adaptik.errors, adaptik.mathematics.stepping.flow as flow, adaptik.transfer.point as point
assert transfer_point is point.transfer_point and Integration is flow.Integration
assert adaptik.errors.InputError is adaptik.InputError
assert point.__spec__.name == point.__name__ == "adaptik.transfer.point"
from adaptik import solve
assert solve is adaptik.solve and not hasattr(adaptik, "unheard_of")
heavy = {"matplotlib", "dask", "zarr", "sklearn", "xarray", "pandas"} & set(sys.modules)
assert not heavy, f"import adaptik loads {sorted(heavy)}"
import jax
from jax._src import xla_bridge
assert not xla_bridge._backends, f"import adaptik starts {list(xla_bridge._backends)}"
assert not jax.config.jax_enable_x64, "import adaptik changes the global precision"
"""


def test_import_is_light():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_modules_that_have_moved_are_where_their_names_lead():
    assert "adaptik.experiments.linear_curves" in MOVED
    for now in MOVED.values():
        assert find_spec(now) is not None, now
