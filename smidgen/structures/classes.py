"""Class names with the dataset's own ids: contiguous indices inside, original ids outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Classes:
    """Class index i (0..K-1, what the network predicts) is named names[i] and has the id ids[i] in the dataset."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids) or len(set(self.ids)) != len(self.ids):
            raise ValueError(f"expected as many names as distinct ids, got {self.names} and {self.ids}")

    @staticmethod
    def numbered(count: int) -> Classes:
        """Placeholder classes "0", "1", ... whose ids are their indices."""
        return Classes(tuple(str(index) for index in range(count)), tuple(range(count)))

    def __len__(self) -> int:
        return len(self.names)
