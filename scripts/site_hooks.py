"""What `make site` does beyond MkDocs: the pages of this repository stay as they read on a code host.

* Pages outside of docs/ (CHANGELOG.md and the like, the examples' README.md) become pages of the site.
* A file of the source that a page links to becomes a page that shows it, so that no link leads out of the site.
* Anchors are those that a code host gives its headings.
* The words behind a fence that say how a test runs the block are taken off; a file's name becomes its title.
* `<picture>` with a source for dark pages, which is how a code host shows one picture for each of its two looks,
  becomes two pictures of which the site shows one: the reader may have chosen another look than the system's.
* The copy button of a console copies what is to be typed.
* Mermaid, which draws the diagrams, is the copy that `scripts/setup.sh` has installed, on the pages that need it.
"""

import os
import posixpath
import re
from html import escape, unescape
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
MERMAID = ROOT / ".cache" / "site" / "mermaid.min.js"
MERMAID_URI = "javascripts/mermaid.min.js"

# Where each page from outside of docs/ is in the site.
PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/django_sync/README.md": "examples/django_sync.md",
    "examples/django_async/README.md": "examples/django_async.md",
    "examples/mixed/README.md": "examples/mixed.md",
}

# Search: pages for somebody who has a task or a symptom come before others. A word in a title counts a thousand times
# as much as one in a text, so pages that list everything get less than a thousandth. The first prefix that fits counts.
BOOSTS = {"troubleshooting": 4, "tutorial": 2, "howto/": 2, "servers/matrix": 0.0005, "servers/": 2, "migrating": 2}
BOOSTS |= dict.fromkeys(("changelog", "conformance", "django_deviations", "internals"), 0.0005)
BOOSTS |= dict.fromkeys(("contributing", "dependencies", "glossary", "order"), 0.3)
BOOSTS |= dict.fromkeys(("deploying", "django", "mixing", "observability", "options", "testing", "why"), 2)
BOOSTS["websockets"] = 2

_FENCED = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s]+)(?P<after>\))")
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img alt="(?P<alt>[^"]*)" src="(?P<light>[^"]+)"[^>]*>\s*</picture>'
)
_CONSOLE = re.compile(r'<div (?P<rest>class="language-console[^>]*>)(?P<code>.*?)</div>', re.DOTALL)
_CODE = re.compile(r"(?<!`)`[^`]+`(?!`)")


# --- which pages there are -----------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors as a code host makes them."""
    config.mdx_configs["toc"]["slugify"] = slug
    return config


def slug(heading: str, separator: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", separator)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, those of the source that pages link to, and Mermaid."""
    origins = {ROOT / "docs" / file.src_uri: file.src_uri for file in files if file.src_uri.endswith(".md")}
    origins |= {ROOT / name: uri for name, uri in PAGES.items()}
    shown: dict[str, Path] = {}
    for origin in origins:
        for target in _outside(origin, origin.read_text(encoding="utf-8")):
            shown[_source_uri(target)] = target
    for name, uri in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    for uri, target in sorted(shown.items()):
        files.append(File.generated(config, uri, content=_shown(target), inclusion=InclusionLevel.NOT_IN_NAV))
    if not MERMAID.exists():
        raise PluginError(f"there is no {MERMAID.relative_to(ROOT)}: `make site` installs it")
    files.append(File.generated(config, MERMAID_URI, abs_src_path=str(MERMAID)))
    return files


def _outside(origin: Path, text: str) -> list[Path]:
    """The files of the source that a page links to."""
    plain = _CODE.sub("", _FENCED.sub("", text))
    targets = (_target(origin, match["target"]) for match in _LINK.finditer(plain))
    return [target for target in targets if target is not None and _uri(target) is None]


def _target(origin: Path, link: str) -> Path | None:
    """What a relative link leads to; None where it leads to another site, or within its page."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", link):
        return None
    return Path(os.path.normpath(origin.parent / path))


def _uri(target: Path) -> str | None:
    """Where a file of this repository has its place in the site by itself."""
    name = target.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else None


def _source_uri(target: Path) -> str:
    return f"source/{target.relative_to(ROOT).as_posix()}.md"


def _shown(target: Path) -> str:
    """A page that shows a file, or the names in a folder."""
    name = target.relative_to(ROOT).as_posix()
    if target.is_dir():
        text, language = "\n".join(sorted(path.name for path in target.iterdir() if path.name[0] not in "._")), "text"
    else:
        text = target.read_text(encoding="utf-8")
        language = {".py": "python", ".toml": "toml", ".sh": "sh"}.get(target.suffix, "text")
    # Search finds what is said of the code, and not the code.
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n``````{language}\n{text.rstrip()}\n``````\n"


# --- what is on them -----------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of docs/, and the words behind fences."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    boost = next((boost for prefix, boost in BOOSTS.items() if uri.startswith(prefix)), 1)
    page.meta.setdefault("search", {})["boost"] = boost
    origin = next((ROOT / name for name, there in PAGES.items() if there == uri), ROOT / "docs" / uri)
    markdown = pictures(markdown)
    done, parts = 0, []
    for match in _FENCED.finditer(markdown):
        parts.append(_relinked(markdown[done : match.start()], origin, uri))
        indent, fence = match["indent"], match["fence"]
        parts.append(f"{indent}{fence}{_info(match['info'])}\n{match['text']}{indent}{fence}")
        done = match.end()
    parts.append(_relinked(markdown[done:], origin, uri))
    return "".join(parts)


def pictures(markdown: str) -> str:
    """Each `<picture>` as two images, one for each look of the site."""
    return _PICTURE.sub(r"![\g<alt>](\g<light>#only-light) ![\g<alt>](\g<dark>#only-dark)", markdown)


def _info(info: str) -> str:
    """The language of a block; the name of its file is its title."""
    language, _, rest = info.strip().partition(" ")
    file = re.search(r"(file|append)=(\S+)", rest)
    if not file:
        return language
    at_the_end = ", at the end" if file[1] == "append" else ""
    return f'{language} title="{file[2]}{at_the_end}"'


def _relinked(text: str, origin: Path, uri: str) -> str:
    def relinked(match: re.Match[str]) -> str:
        target = _target(origin, match["target"])
        if target is None:
            return match[0]
        there = _uri(target) or _source_uri(target)
        _, hash_sign, anchor = match["target"].partition("#")
        path = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{match['before']}{path}{hash_sign}{anchor}{match['after']}"

    # A link within backticks is none.
    parts = re.split(r"((?<!`)`[^`]+`(?!`))", text)
    return "".join(part if part[:1] == "`" else _LINK.sub(relinked, part) for part in parts)


def _copied(match: re.Match[str]) -> str:
    """A console whose copy button copies the commands, without prompts and without what they print."""
    lines = unescape(re.sub(r"<[^>]+>", "", match["code"])).splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return f'<div data-copy="{escape(chr(10).join(commands))}" {match["rest"]}{match["code"]}</div>'


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What a console's copy button copies; and Mermaid before what draws with it, where something is to be drawn."""
    html = _CONSOLE.sub(_copied, html)
    if '<pre class="mermaid">' not in html:
        return html
    script = posixpath.relpath(MERMAID_URI, page.url or ".")
    return f'<script src="{script}"></script>\n{html}'
