"""The README of a package: a build hook of hatchling makes its links absolute, since a package index has no files.

They lead to the tag of the version, below `Source` of `[project.urls]`, as on GitHub, GitLab and Forgejo.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or a picture of Markdown, or of HTML, that leads to a file of this repository.
_RELATIVE = re.compile(r'(?P<before>\]\(|(?P<picture>(?:src|srcset)=")|href=")(?![a-z]+:|[#/])(?P<path>[^)"\s]+)')


class ReadmeHook(MetadataHookInterface):
    """`readme` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        version = re.search(
            r'^__version__ = "(.+)"$', Path(self.root, "src/bridge/__init__.py").read_text(), re.MULTILINE
        )
        assert version is not None
        absolute_text = absolute(text, metadata["urls"]["Source"], version[1])
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_text}


def absolute(text: str, source: str, version: str) -> str:
    """The text with links to the files of that version."""

    def there(match: re.Match[str]) -> str:
        kind = "raw" if match["picture"] else "blob"
        return f"{match['before']}{source.rstrip('/')}/{kind}/v{version}/{match['path']}"

    return _RELATIVE.sub(there, text)
