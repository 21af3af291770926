"""Modules that have moved can still be imported under the names that they had."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "adaptik.activations": "adaptik.mathematics.activations",
    "adaptik.errors": "adaptik.system.errors",
    "adaptik.estimate": "adaptik.solution.estimate",
    "adaptik.gaussian": "adaptik.mathematics.gaussian",
    "adaptik.lazy_kernels": "adaptik.kernels.lazy",
    "adaptik.losses": "adaptik.mathematics.losses",
    "adaptik.observables": "adaptik.solution.observables",
    "adaptik.regression": "adaptik.kernels.regression",
    "adaptik.revealed": "adaptik.linear_theory.revealed",
    "adaptik.stages": "adaptik.tasks.stages",
    "adaptik.stepping": "adaptik.mathematics.stepping",
    "adaptik.study": "adaptik.transfer.study",
    "adaptik.transfer_point": "adaptik.transfer.point",
}


class _Moved(MetaPathFinder, Loader):
    """Finds a module under a name that it had, as the module of its present name."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _present(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_present(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing runs again; the import system has replaced the module's own specification."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def _present(name: str) -> str:
    """The present name of a module that has moved, alone or with its folder; empty for others."""
    for then, now in MOVED.items():
        if name == then or name.startswith(f"{then}."):
            return now + name.removeprefix(then)
    return ""


def install() -> None:
    """Let Python find modules under their earlier names, before it looks into moved folders."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
