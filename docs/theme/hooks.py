"""What the site does to pages: files of the repository's root as pages, formulas as MathML."""

import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SHIM = "https://unpkg.com/iframe-worker/shim"  # what the theme loads from a network; ours is a file
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files, config):
    """Pages from the repository's root, their links as they are within the site."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Links that leave the folder of pages lead to the pages made of those files."""
    for name, page in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def on_page_content(html, **_):
    """Formulas as MathML, which browsers show without a script."""

    def formula(found):
        display = "block" if found[1] == "div" else "inline"
        return convert(unescape(found[2]), display=display)

    return FORMULA.sub(formula, html)


def on_post_page(html, page, **_):
    """The search's worker from the site itself."""
    return html.replace(SHIM, "../" * page.url.count("/") + "worker.js")
