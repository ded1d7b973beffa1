"""Lines of a label file as annotators' programs leave them: any encoding, any line ends, names kept as bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path


def read_lines(file: Path) -> list[str]:
    """Lines without their ends and without blank ones.

    Bytes that are not UTF-8 come through as surrogates, so that a name read here still opens its file. Only line feeds
    separate lines: other signs that Unicode calls line ends may stand in names.
    """
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return [line for line in lines if line.strip()]


def legible(text: str) -> str:
    """A name to be shown: bytes that came through as surrogates are read as Windows-1252, the usual other encoding."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def excerpt(line: str) -> str:
    """The beginning of a line, printable, for a note."""
    return line.strip()[:80].encode("utf-8", "replace").decode()


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Lines as `read_lines` reads them, in a file whose folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
