"""A finding: one thing that is wrong with a dataset, how bad it is, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from smidgen.data.notes import NOTE_KINDS, Severity

_OWN_KINDS: dict[str, tuple[Severity, str]] = {
    # The dataset as a whole
    "unusable_split": ("error", "mend its annotation file, or leave the split out"),
    "different_categories": ("error", "give all splits the same list of categories, or classes are mixed up"),
    "duplicate_category": ("error", "merge the categories, or one class is learned as two"),
    "unused_category": ("warning", "remove it, or check whether its labels were lost"),
    "unseen_category": ("warning", "put examples into train, or it cannot be learned"),
    "images_without_objects": ("warning", "fine if they are meant as background; otherwise label them"),
    "image_in_two_splits": ("error", "keep it in one split only, or the evaluation is too good to be true"),
    "similar_image_in_two_splits": ("warning", "look at the pair; near copies make the evaluation too good"),
    # Annotation files
    "duplicate_annotation_id": ("error", "number the annotations anew, or tools that look them up by id lose some"),
    "annotation_id_zero": ("warning", "number from 1: COCO's evaluation takes 0 for 'no match'"),
    "listed_twice": ("error", "keep one entry with all its boxes, or each copy calls the other's objects background"),
    "unlisted_image": ("warning", "annotate it or take it away; it is not used"),
    "label_without_image": ("error", "put its image back, or delete the label file"),
    "not_normalized": ("error", "divide x by the image's width and y by its height"),
    "box_order": ("warning", "boxes look like x0 y0 x1 y1; write them in the order that the format expects"),
    # Boxes
    "duplicate_box": ("warning", "keep one of them; the others count as missed objects"),
    "conflicting_box": ("warning", "decide for one class, if objects are to have only one"),
    "large_box": ("warning", "check whether the box was meant for an object"),
    "tiny_box": ("warning", "check whether it was drawn by accident; hardly a detector sees it"),
    # Image files
    "damaged_image": ("error", "get the file again; a part of it is missing or changed"),
    "float_image": ("error", "convert it to 8 or 16 bits; which range of values is black to white only you know"),
    "huge_image": ("error", "cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"),
    "very_large_image": ("warning", "cut it into tiles if memory runs out"),
    "size_mismatch": ("error", "annotate the file that is there, or bring back the one that was annotated"),
    "exif_rotated": ("warning", "store it upright (--fix does); tools disagree about the tag"),
    "sixteen_bit_image": (
        "warning",
        "its values are scaled from 0..65535 to 0..255; convert it if its range is smaller",
    ),
    "cmyk_image": ("warning", "its colors are converted without a profile; store it as RGB"),
    "palette_image": ("warning", "it is read as RGB; tools that read the palette's numbers see noise"),
    "alpha_image": ("warning", "transparent pixels are read as black; store it without transparency"),
    "several_frames": ("warning", "only the first is read; store the others as files of their own"),
    "wrong_suffix": ("warning", "rename it; some tools go by the name"),
    "duplicate_file": ("warning", "keep one of them; the other adds weight but no information"),
    "similar_image": ("warning", "look at the pair; near copies add little"),
}

_REMEDIES_OF_NOTES: dict[str, str] = {
    "missing_image": "put the file back, or delete its annotations",
    "unreadable_image": "get the file again, or delete it with its annotations",
    "duplicate_image": "give every image an id of its own; only the first one is used",
    "inverted_box": "its right or lower side comes before the left or upper one; swap them or draw it again",
    "degenerate_box": "it has no area or is not made of numbers; delete it or draw it again",
    "outside_box": "it lies outside its image; delete it, or check which image size it was drawn for",
    "unknown_category": "declare the category or correct the number; the box is dropped",
    "unknown_image": "declare the image or delete the annotation; the box is dropped",
    "malformed_label": "correct the line or entry; it is dropped",
    "clipped_box": "it reaches over the border and is clipped; check which image size it was drawn for",
    "missing_labels": "write an empty label file if the image is background; otherwise label it",
}

# Kind of finding -> (severity, what to do). Errors lose or falsify something; warnings ask for a look.
FINDING_KINDS: MappingProxyType[str, tuple[Severity, str]] = MappingProxyType(
    {kind: (severity, _REMEDIES_OF_NOTES.get(kind, meaning)) for kind, (severity, meaning) in NOTE_KINDS.items()}
    | _OWN_KINDS
)


@dataclass(frozen=True, slots=True)
class Finding:
    """kind: a key of FINDING_KINDS. file: where, as printable text. observed: what exactly, may be empty."""

    kind: str
    file: str
    observed: str = ""

    @property
    def severity(self) -> Severity:
        return FINDING_KINDS[self.kind][0]

    @property
    def remedy(self) -> str:
        """What to do about findings of this kind."""
        return FINDING_KINDS[self.kind][1]

    def to_json(self) -> dict[str, str]:
        """As the command prints it; detail says what was observed and what to do."""
        detail = f"{self.observed}: {self.remedy}" if self.observed else self.remedy
        return {"kind": self.kind, "file": self.file, "detail": detail}
