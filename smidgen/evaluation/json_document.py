"""JSON that somebody else wrote: in any Unicode encoding, and where it is broken, an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """The content of a JSON file. ValueError where it is none; FileNotFoundError where there is no file.

    UTF-8, UTF-16 and UTF-32 with or without byte order mark; names in other encodings keep their bytes (surrogate
    escapes), so that they still open their files.
    """
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path} is empty; expected JSON")
    try:
        return json.loads(content.decode(json.detect_encoding(content), "surrogateescape"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be read") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
