"""Docstrings as pages read them: roles and citations of the theory become links."""

import re
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import griffe
from pymdownx.slugs import slugify

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):`[~.]*([\w.]+)`")
CITED = re.compile(r"\b([Tt]heory\s+section\s+)(\d+(?:\.\d+)?)")
THEORY = (Path(__file__).parents[1] / "theory.md").read_text()
TITLES = re.findall(r"^#{2,3} ((\d(?:\.\d)?)\.? .*)", THEORY, re.MULTILINE)
SECTIONS = {number: slugify(case="lower")(title, "-") for title, number in TITLES}


def link(identifier: str, text: str) -> str:
    """Leads to the identifier where a page has it, and is text elsewhere."""
    return f'<autoref optional identifier="{identifier}">{text}</autoref>'


def links(obj: griffe.Object, text: str) -> str:
    """A docstring with links in the place of roles and citations."""
    inside = obj.is_class or (obj.parent is not None and obj.parent.is_class)
    scope = obj.path if obj.is_class or obj.parent is None else obj.parent.path

    def named(found: re.Match) -> str:
        name = found[1]
        if not name.startswith("adaptik."):
            name = f"{scope}.{name}" if inside and name[0].islower() else f"adaptik.{name}"
        return link(name, f"<code>{found[1].split('.')[-1]}</code>")

    def cited(found: re.Match) -> str:
        known = SECTIONS.get(found[2])
        return found[0] if known is None else link(known, found[0])

    return CITED.sub(cited, ROLE.sub(named, text))


class Links(griffe.Extension):
    """Replaces them in every docstring of the package."""

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        self._visit(pkg)

    def _visit(self, obj: griffe.Object) -> None:
        if obj.docstring is None and obj.is_class and "__doc__" in obj.members:
            # Made when the class is, as those of the estimators.
            made = getattr(import_module(obj.module.path), obj.name).__doc__
            obj.docstring = griffe.Docstring(cleandoc(made), parent=obj)
        if obj.docstring is not None:
            obj.docstring.value = links(obj, obj.docstring.value)
        for member in list(obj.members.values()):
            if not member.is_alias:
                self._visit(member)
