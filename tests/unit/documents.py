"""Reading Markdown as far as the tests of the documents need it."""

from __future__ import annotations

import re
from pathlib import Path


def code_blocks(document: Path | str, *languages: str) -> list[str]:
    """The blocks of code in any of these languages, in a document or a part of one."""
    text = document if isinstance(document, str) else document.read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for language, code in blocks if language in languages]


def table(document: Path, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its own heading."""
    section = re.split(r"^#+ ", document.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.partition("\n")[0] == heading]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
