"""The parts of a Markdown page."""

import re


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """What is below a heading, up to the next one of its level."""
    level = title.split(maxsplit=1)[0]
    return text.split(f"\n{title}\n")[1].split(f"\n{level} ", maxsplit=1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables, without the heads."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-|")]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]
