"""Whether a JPEG or PNG file is there to its last byte: decoders fill up a missing end without a word.

JPEG: ITU-T T.81, annex B (segments, then coded data up to the marker EOI). PNG: W3C recommendation, section 5 (chunks,
each with a checksum, the last one IEND).
"""

from __future__ import annotations

import zlib

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_PNG_FRAME_BYTES = 12  # length, type and checksum of a chunk


def missing_part(content: bytes) -> str:
    """What is missing or changed in the content of an image file, "" where nothing is known to be."""
    if content.startswith(_PNG_SIGNATURE):
        return _wrong_chunk(content)
    if content.startswith(_JPEG_START):
        return "" if _has_jpeg_end(content) else "the end marker of the JPEG data is missing; the file was cut off"
    return ""


def _has_jpeg_end(content: bytes) -> bool:
    """Whether EOI comes after the start of the scan; previews inside of segments have markers of their own."""
    position = len(_JPEG_START)
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _JPEG_SCAN:
            break
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return content.find(_JPEG_END, position) >= 0


def _wrong_chunk(content: bytes) -> str:
    position = len(_PNG_SIGNATURE)
    while position + _PNG_FRAME_BYTES <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 4 : position + 8 + length]
        checksum = content[position + 8 + length : position + _PNG_FRAME_BYTES + length]
        if len(checksum) == 4 and zlib.crc32(body) != int.from_bytes(checksum, "big"):
            return f"the checksum of the PNG chunk {body[:4].decode('latin-1')!r} at byte {position} is wrong"
        if body[:4] == b"IEND":
            return ""
        position += _PNG_FRAME_BYTES + length
    return "the last chunk of the PNG data is missing; the file was cut off"
