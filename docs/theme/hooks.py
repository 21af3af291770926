"""What the site does to pages: files of the repository's root as pages, formulas as MathML."""

import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

LOG = get_plugin_logger(__name__)
ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SHIM = "https://unpkg.com/iframe-worker/shim"  # what the theme loads from a network; ours is a file
LOADED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="(https?:[^"]*)"')
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
    """The search's worker from the site itself; a page that loads anything else is a warning."""
    html = html.replace(SHIM, "../" * page.url.count("/") + "worker.js")
    for found in LOADED.findall(html):
        LOG.warning("%s loads %s: pages work without a network", page.url, found)
    return html
