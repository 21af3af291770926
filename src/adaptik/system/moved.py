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
_SUBJECTS = {  # of experiments, which stores of sweeps name
    "images": (
        "gain_fades_with_target_data layers_to_keep preactivations_leave_the_gaussian "
        "readout_beats_lazy rich_features_need_fewer_images rich_targets_want_early_stopping"
    ),
    "linear": (
        "aligned_source_helps anisotropic_noise_hurts more_source_data_help over_rich_source "
        "richer_source_helps"
    ),
    "polynomials": (
        "curriculum_of_three easy_before_hard hard_before_easy polynomial_source_data "
        "when_to_switch"
    ),
    "posteriors": "elastic_pull pull_helps_related_tasks pull_on_images pull_on_polynomials",
}
MOVED |= {
    f"adaptik.experiments.{name}": f"adaptik.experiments.{subject}.{name}"
    for subject, names in _SUBJECTS.items()
    for name in names.split()
} | {
    "adaptik.experiments.image_fine_tuning": "adaptik.experiments.images.fine_tuning",
    "adaptik.experiments.image_pairs": "adaptik.experiments.images.pairs",
    "adaptik.experiments.jointly_rich_images": "adaptik.experiments.images.jointly_rich",
    "adaptik.experiments.linear_curves": "adaptik.experiments.linear.closed_forms",
    "adaptik.experiments.linear_networks": "adaptik.experiments.linear.trained",
    "adaptik.experiments.polynomial_stages": "adaptik.experiments.polynomials.two_stages",
}


class _Moved(MetaPathFinder, Loader):
    """Finds a module under a name that it had, as the module of its present name."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if present(fullname) != fullname else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(present(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing runs again; the import system has replaced the module's own specification."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def present(name: str) -> str:
    """The present name of a module, or of what it holds, by the name that it had.

    Examples
    --------
    >>> present("adaptik.transfer_point.transfer_point"), present("json.loads")
    ('adaptik.transfer.point.transfer_point', 'json.loads')
    """
    for then, now in MOVED.items():
        if name == then or name.startswith(f"{then}."):
            return now + name.removeprefix(then)
    return name


def install() -> None:
    """Let Python find modules under their earlier names, before it looks into moved folders."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
