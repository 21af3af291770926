"""The site: public names stand on a page with an example that runs, tutorials run, are stored."""

import importlib
import importlib.util
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from adaptik.limits import AbstractLimit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = (
    "adaptik",
    "adaptik.tasks",
    "adaptik.limits",
    "adaptik.networks",
    "adaptik.solution",
    "adaptik.solution.observables",
    "adaptik.transfer",
    "adaptik.estimators",
    "adaptik.sweeps",
    "adaptik.linear_theory",
    "adaptik.kernels.lazy",
    "adaptik.kernels.regression",
    "adaptik.mathematics.activations",
    "adaptik.experiments",
)
BLOCK = re.compile(r"^::: ([\w.]+)\n((?:    .*\n)*)", re.MULTILINE)
GENERATED = {"contributing.md", "changelog.md"}  # from files of the repository's root

spec = importlib.util.spec_from_file_location("render", DOCS / "render.py")
assert spec is not None and spec.loader is not None
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)


def found(path: str) -> object:
    """What a dotted name means."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@cache
def blocks() -> dict[str, str]:
    """Of all pages of the API: names and their options."""
    pages = "\n".join(file.read_text() for file in sorted((DOCS / "api").glob("*.md")))
    return {name: options for name, options in BLOCK.findall(pages + "\n")}


def public() -> list[tuple[str, object]]:
    """All names of the rooms, modules apart."""
    names = {}
    for room in ROOMS:
        module = importlib.import_module(room)
        own = [n for n, o in vars(module).items() if getattr(o, "__module__", None) == room]
        for name in getattr(module, "__all__", [n for n in own if not n.startswith("_")]):
            value = getattr(module, name)
            if not inspect.ismodule(value):
                names[f"{room}.{name}"] = value
    return list(names.items())


def has_text(value: object) -> bool:
    """Whether a name can have a docstring: constants and aliases of types have none."""
    return inspect.isfunction(value) or isinstance(value, type)


def examples(value: object) -> str:
    """The lines of a docstring that are run."""
    text = inspect.getdoc(value) or ""
    return "\n".join(re.findall(r"^(?:>>>|\.\.\.) .*", text, re.MULTILINE))


def methods(owner: type, options: str) -> list[tuple[str, object]]:
    """Public methods that the page shows, inherited ones where it asks for them."""
    if "members: false" in options:
        return []
    shown = re.search(r"members: \[(.*)\]", options)
    inherited = "inherited_members: true" in options
    listed = []
    for base in owner.__mro__ if inherited else (owner,):
        if not base.__module__.startswith("adaptik"):
            continue
        for name, value in vars(base).items():
            bare = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if inspect.isfunction(bare) and bare.__doc__ and not name.startswith("_"):
                listed.append((name, bare))
    return [m for m in listed if shown is None or m[0] in shown[1].split(", ")]


def test_every_public_name_stands_on_a_page():
    shown = [found(name) for name in blocks()]
    missing = [name for name, value in public() if not any(value is one for one in shown)]
    assert not missing and len(public()) > 80


def test_every_public_name_has_an_example():
    missing = [name for name, value in public() if has_text(value) and not examples(value)]
    assert not missing


def test_every_method_on_a_page_is_in_an_example():
    missing, count = [], 0
    for name, options in blocks().items():
        owner = found(name)
        if not isinstance(owner, type):
            continue
        for method, function in methods(owner, options):
            count += 1
            used = re.search(rf"[.]{method}\b", examples(owner))
            if not used and not examples(function):
                missing.append(f"{name}.{method}")
    assert not missing and count > 80


def test_limits_are_shown_without_what_solve_calls():
    """Their methods are those of AbstractLimit, which has them on its page."""
    for name, options in blocks().items():
        owner = found(name)
        if isinstance(owner, type) and issubclass(owner, AbstractLimit):
            assert "members" in options or owner is AbstractLimit, name


def test_all_pages_are_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"([\w/]+\.md)$", nav, re.MULTILINE)
    pages = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md")} | GENERATED
    assert len(named) == len(set(named)) and set(named) == pages


@pytest.mark.parametrize("name", render.names())
def test_stored_tutorials_are_those_of_their_scripts(name):
    stored = (DOCS / "tutorials" / f"{name}.md").read_text()
    rest = stored
    for cell in render.cells(name):
        if cell.kind == "check":
            assert cell.text not in stored
            continue
        shown = cell.text if cell.kind == "markdown" else f"```python\n{cell.text}\n```"
        before, here, rest = rest.partition(shown)
        assert here, f"python docs/render.py {name}: its page lacks\n{shown}"
        assert before.count("```python") == 0
    assert "Traceback" not in stored
    figures = set(re.findall(r"\(figures/(.*?\.png)\)", stored))
    assert figures == {file.name for file in render.FIGURES.glob(f"{name}-*.png")}
    assert all(label for label in re.findall(r"!\[(.*?)\]", stored)) and figures


def test_a_tutorial_that_raises_is_seen(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("# %%\nx = 1\n\n# %% [check]\nassert x == 2\n")
    monkeypatch.setattr(render, "FOLDER", tmp_path)
    with pytest.raises(AssertionError):
        render.run("broken")


def test_cells_print_what_notebooks_would(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("# %% [markdown]\n# Text\n\n# %%\nprint(1)\n1 + 1\n")
    monkeypatch.setattr(render, "FOLDER", tmp_path)
    results = render.run("one")
    assert [printed for printed, _ in results] == ["", "1\n2\n"]
    assert "Text" in render.page("one", results) and "```text\n1\n2\n```" in render.page(
        "one", results
    )


@pytest.mark.evidence
@pytest.mark.parametrize("name", render.names())
def test_tutorials_run(name):
    results = render.run(name)
    stored = (DOCS / "tutorials" / f"{name}.md").read_text()
    assert sum(len(figures) for _, figures in results) == stored.count("](figures/")
