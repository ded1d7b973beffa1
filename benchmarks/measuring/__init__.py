"""Variants of the same work timed in turns, and what came out kept with the machine it came out on.

options = parser(__doc__, rounds=5).parse_args()
with recording(__file__, options) as record:
    record.measure("forward", {"peer": theirs, "ours": ours}, against="peer")
"""

from measuring.measurement import Measurement, Ratio, VariantTimes
from measuring.memory import peak_mib
from measuring.record import Recording, parser, recording
from measuring.rounds import measure, measure_long

__all__ = [
    "Measurement",
    "Ratio",
    "Recording",
    "VariantTimes",
    "measure",
    "measure_long",
    "parser",
    "peak_mib",
    "recording",
]
