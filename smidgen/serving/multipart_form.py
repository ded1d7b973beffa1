"""Files of a multipart/form-data body that is in memory already (RFC 7578), with python-multipart's parser."""

from __future__ import annotations

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from smidgen.serving.limits import Limits
from smidgen.serving.refusals import Refusal

FORM_EXAMPLE = "send the files as curl -F file=@image.jpg does"


def files_of_form(body: bytes, content_type: str, limits: Limits) -> list[tuple[str, bytes]]:
    """(name, content) of every part that is a file. Raises Refusal 400 (broken) or 413 (more parts than allowed)."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "the form has no boundary", FORM_EXAMPLE)
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Refusal(400, f"the form is broken ({str(error)[:120]})", FORM_EXAMPLE) from error
    if not form.complete:
        raise Refusal(400, "the form ends before its last boundary", FORM_EXAMPLE)
    return form.files


class _Form:
    """Gathers what the parser reports."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts = 0
        self._field, self._value, self._disposition = b"", b"", b""
        self._content = bytearray()
        self.files: list[tuple[str, bytes]] = []
        self.complete = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_field,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_content,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.parts:
            raise Refusal(413, f"the form has more than {self._limits.parts} parts", "send several requests")
        self._disposition = b""
        self._content = bytearray()

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace") or f"image {len(self.files)}"
            self.files.append((name, bytes(self._content)))

    def _finish(self) -> None:
        self.complete = True
