"""Citations lead somewhere: sections of the theory, names in the notation, files and tests."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import adaptik

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "theory.md"
HEADING = re.compile(r"^#{2,3} (\d(?:\.\d)?)\.? ", re.MULTILINE)
# "theory section 3.4", "theory sections 2 and 6", "theory section 2, point 2", on two lines or not.
NUMBER = r"\d+(?:\.\d+)?"
CITED = re.compile(
    rf"theory(?:\.md)?,?[\s#]+sections?[\s#]+({NUMBER}(?:(?:,| and|, and)[\s#]+{NUMBER})*)"
    r"(?:,[\s#]+point[\s#]+(\d+))?",
    re.IGNORECASE,
)
LOOSE = re.compile(r"\btheory \d+(?:\.\d+)?[):,;]", re.IGNORECASE)  # without "section"


def sections() -> dict[str, str]:
    """The text of every numbered section, up to the next heading."""
    parts = HEADING.split(PAGE.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def sources() -> list[Path]:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for folder in ("src", "tests", "benchmarks"):
        files += sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if file != Path(__file__)]


def broken(text: str) -> list[str]:
    """Citations in a text that lead to no section of the theory, or do not say section."""
    known, wrong = sections(), [found.group() for found in LOOSE.finditer(text)]
    for found in CITED.finditer(text):
        if "linear theory" in text[max(0, found.start() - 7) : found.end()].lower():
            continue  # a page of its own
        for number in re.findall(NUMBER, found.group(1)):
            point = found.group(2)
            listed = point is None or re.search(rf"^{point}\. ", known.get(number, ""), re.M)
            if number not in known or not listed:
                wrong.append(found.group())
    return wrong


def resolve(name: str) -> None:
    """Raise where ``adaptik.<name>`` does not exist; ``f(x)`` needs f to have the argument x."""
    path, _, argument = name.rstrip(")").partition("(")
    owner, done = adaptik, "adaptik"
    for part in path.split("."):
        done += f".{part}"
        if inspect.ismodule(owner) and not hasattr(owner, part):
            owner = importlib.import_module(done)
        elif inspect.isclass(owner) and part in _fields(owner):
            owner = None
        else:
            owner = getattr(owner, part)
    if argument:
        assert argument in inspect.signature(owner).parameters, f"{name}: no such argument"


def _fields(owner: type) -> set[str]:
    """Annotated fields, and attributes that ``__init__`` sets."""
    declared = {name for base in owner.__mro__ for name in inspect.get_annotations(base)}
    own = "__init__" in owner.__dict__ and "__dataclass_fields__" not in owner.__dict__
    for line in inspect.getsource(owner.__init__).splitlines() if own else ():
        declared |= set(re.findall(r"self\.(\w+)(?=[^=(]*=)", line.split("#")[0]))
    return declared


def rows() -> list[tuple[str, str]]:
    """Of the notation: the column of names, and the section."""
    lines = (ROOT / "docs" / "notation.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert all(len(row) == 4 for row in cells)
    return [(row[2], row[3].strip()) for row in cells if "`" in row[2]]


def test_the_theory_is_numbered_without_repetition():
    numbers = HEADING.findall(PAGE.read_text())
    assert len(numbers) == len(set(numbers)) and numbers == sorted(numbers)
    assert len(numbers) > 10


def test_citations_lead_to_sections():
    wrong = {str(f.relative_to(ROOT)): broken(f.read_text()) for f in sources()}
    assert not {file: cites for file, cites in wrong.items() if cites}
    assert sum(len(CITED.findall(f.read_text())) for f in sources()) > 40


@pytest.mark.parametrize(
    "text",
    [
        "(theory section 12)",
        "(theory sections 2 and 3.9)",
        "theory\n    section 3.8",
        "theory\n# section 17",
        "theory section 2, point 9",
        "docs/theory.md, section 14",
        "(theory 3.4)",
    ],
)
def test_broken_citations_are_seen(text):
    assert broken(text)
    mended = re.sub(r"12|3\.9|3\.8|17|14", "3.1", text).replace("point 9", "point 2")
    assert not broken(mended.replace("(theory 3.4)", "(theory section 3.4)"))


def test_names_in_the_notation_exist():
    known = sections()
    names = [name for cell, _ in rows() for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 80
    for name in names:
        try:
            resolve(name)
        except (AttributeError, ImportError) as error:
            raise AssertionError(f"docs/notation.md: {name}: {error}") from None
    assert not [section for _, section in rows() if section not in known]


@pytest.mark.parametrize(
    "name",
    [
        "Stage.richnes",
        "limits.nowhere.Span",
        "tasks.span.Span.bases",
        "mathematics.chains.Chains.chi",
        "linear_theory.transfer_loss(richnes)",
    ],
)
def test_broken_names_are_seen(name):
    with pytest.raises((AttributeError, ImportError, AssertionError)):
        resolve(name)


def test_files_and_tests_that_the_theory_names_exist():
    text = PAGE.read_text()
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    for name in re.findall(r"`([\w/]+\.py)`", text):
        folder = ROOT / "tests" if name.startswith("test_") else ROOT / "src" / "adaptik"
        assert (folder / name).is_file(), name
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for number, section in sections().items():
        if number != "3":
            assert "**Code.**" in section and "**Held by.**" in section, number


def test_files_that_pages_name_exist():
    package, count = ROOT / "src" / "adaptik", 0
    places = ROOT, package.parent, package, package / "experiments", ROOT / "benchmarks"
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`([a-z_/]+/[a-z_]+\.(?:py|toml))`", page.read_text()):
            assert any((place / name).is_file() for place in places), f"{page.name}: {name}"
            count += 1
    assert count > 60


def test_faults_stand_where_they_are_said_to():
    """Of ``make mutants``: the text to change, once in its file, and the test that sees it."""
    faults = tomllib.loads((ROOT / "benchmarks" / "mutants.toml").read_text())["mutant"]
    assert len(faults) > 60
    for fault in faults:
        text = (ROOT / "src" / "adaptik" / fault["path"]).read_text()
        assert text.count(fault["old"]) == 1, fault["name"]
        file, _, test = fault["test"].partition("::")
        name = test.split("[")[0].rpartition(".")[2]
        assert f"def {name}(" in (ROOT / file).read_text(), fault["name"]


def test_links_between_pages_lead_to_headings():
    def anchors(page: Path) -> set[str]:
        text = page.read_text()
        titles, named = re.findall(r"^#+ (.*)", text, re.M), re.findall(r'<a id="([^"]+)"', text)
        return {*named} | {
            re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
        }

    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"\w+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), f"{page.name}: {target}"
