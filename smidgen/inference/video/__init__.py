"""Videos, numbered frames and cameras: frames with their times in, detections per frame and an annotated film out."""

from smidgen.inference.video.annotated_video import AnnotatedVideo, annotated_video
from smidgen.inference.video.detection import FrameDetections, detect_frames
from smidgen.inference.video.frame_lines import frame_record, write_line
from smidgen.inference.video.frames import BrokenFrame, Frame, UnreadableVideoError, video_frames
from smidgen.inference.video.numbered_frames import numbered_frames
from smidgen.inference.video.recording import VideoCounts, record_video
from smidgen.inference.video.sources import is_video, video_source

__all__ = [
    "AnnotatedVideo",
    "BrokenFrame",
    "Frame",
    "FrameDetections",
    "UnreadableVideoError",
    "VideoCounts",
    "annotated_video",
    "detect_frames",
    "frame_record",
    "is_video",
    "numbered_frames",
    "record_video",
    "video_frames",
    "video_source",
    "write_line",
]
