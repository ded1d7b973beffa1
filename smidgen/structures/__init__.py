"""What travels between the stages: frozen dataclasses without learning. Level 0 is the finest; masks are True where
padded.
"""

from smidgen.structures.classes import Classes
from smidgen.structures.dense import Cells, DenseOutput, LevelAnswers
from smidgen.structures.detections import Detections
from smidgen.structures.images import ImageBatch
from smidgen.structures.memory import Memory, evidence_of
from smidgen.structures.object_sizes import ObjectSizes
from smidgen.structures.predictions import (
    DenoisingPredictions,
    DetectorOutput,
    LayerAnswer,
    OneToManyPredictions,
    Predictions,
    Proposals,
    SupervisedSet,
)
from smidgen.structures.preprocessing import Preprocessing
from smidgen.structures.pyramid import FeaturePyramid
from smidgen.structures.queries import Places, Queries, QueryBudget, QueryGroup
from smidgen.structures.targets import Matches, Target
from smidgen.structures.tokens import ActiveTokens, Tokens
from smidgen.structures.transfer import send

__all__ = [
    "ActiveTokens",
    "Cells",
    "Classes",
    "DenoisingPredictions",
    "DenseOutput",
    "Detections",
    "DetectorOutput",
    "FeaturePyramid",
    "ImageBatch",
    "LayerAnswer",
    "LevelAnswers",
    "Matches",
    "Memory",
    "ObjectSizes",
    "OneToManyPredictions",
    "Places",
    "Predictions",
    "Preprocessing",
    "Proposals",
    "Queries",
    "QueryBudget",
    "QueryGroup",
    "SupervisedSet",
    "Target",
    "Tokens",
    "evidence_of",
    "send",
]
