"""What an encoder returns: tokens to decode over, tokens to propose from, and evidence of what it decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from smidgen.structures.tokens import Tokens

EvidenceType = TypeVar("EvidenceType")


@dataclass(frozen=True, slots=True)
class Memory:
    """Encoded tokens.

    tokens: the decoder's values. proposal_tokens: what proposals are read from (`tokens` unless a system separates
    them). evidence: small dataclasses defined beside the ideas that make them; looked up by type with `evidence_of`.
    """

    tokens: Tokens
    proposal_tokens: Tokens
    evidence: tuple[object, ...] = ()

    @staticmethod
    def of(tokens: Tokens, *evidence: object) -> Memory:
        """Memory whose proposals are read from the decoded tokens."""
        return Memory(tokens, tokens, evidence)


def evidence_of(evidence: tuple[object, ...], kind: type[EvidenceType]) -> EvidenceType | None:
    """The piece of evidence of this type, or None where the model left none."""
    return next((piece for piece in evidence if isinstance(piece, kind)), None)
