"""One line of JSON per frame: a file that can be read while it grows, and a pipe that never ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from smidgen.inference.predictions_file import prediction_record
from smidgen.inference.video.detection import FrameDetections
from smidgen.inference.video.frames import BrokenFrame


def frame_record(answer: FrameDetections | BrokenFrame) -> dict[str, Any]:
    """Index of the frame, seconds since the beginning, detections as in predictions.json; "error" for a broken one."""
    if isinstance(answer, BrokenFrame):
        return {"frame": answer.index, "seconds": answer.seconds, "detections": [], "error": answer.reason}
    found = prediction_record(answer.detections)["detections"]
    return {"frame": answer.frame.index, "seconds": round(answer.frame.seconds, 6), "detections": found}


def write_line(stream: IO[str], record: Mapping[str, Any]) -> None:
    """Append a record; whoever reads the file has it at once."""
    stream.write(json.dumps(record) + "\n")
    stream.flush()
