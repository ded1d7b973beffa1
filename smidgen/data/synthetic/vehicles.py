"""Cars, vans, trucks and buses from above, at their real sizes."""

from __future__ import annotations

from functools import cache

import numpy as np

from smidgen.data.synthetic.sprite import Drawing, Sprite

GLASS = (38, 44, 52)
SIDE_GLASS = (54, 60, 68)
TRIM = (34, 34, 36)
HEADLIGHT = (226, 226, 214)
TAILLIGHT = (150, 32, 30)
STEEL = (168, 170, 172)

Color = tuple[int, int, int]


def hull(length: float, width: float, nose: float, tail: float, corner: float = 0.12) -> np.ndarray:
    """Outline of a body: nose and tail are the share of the width lost toward the ends; corner: where that begins."""
    along = np.linspace(-1, 1, 41)
    front = np.clip((along - (1 - 2 * corner)) / (2 * corner), 0, 1) ** 2
    back = np.clip((-along - (1 - 2 * corner)) / (2 * corner), 0, 1) ** 2
    half = width / 2 * (1 - nose * front - tail * back)
    x = along * length / 2
    return np.concatenate([np.stack([x, half], -1), np.stack([x, -half], -1)[::-1]])


def _lights(drawing: Drawing, front: float, rear: float, half_width: float) -> None:
    for side in (-1, 1):
        inner, outer = sorted((side * half_width * 0.5, side * half_width * 0.86))
        drawing.box(front - 0.22, front - 0.06, inner, outer, HEADLIGHT)
        drawing.box(rear + 0.04, rear + 0.16, inner, outer, TAILLIGHT)


def _cabin(drawing: Drawing, half_width: float, marks: tuple[float, float, float, float], roof_height: float) -> None:
    """Glass and roof; marks: foot and top of the windscreen, end of the roof, foot of the rear window, in meters."""
    foot, top, end, rear = marks
    wide, narrow = half_width * 0.86, half_width * 0.70
    drawing.polygon(
        [(foot, -wide * 0.93), (foot, wide * 0.93), (rear, wide * 0.9), (rear, -wide * 0.9)],
        TRIM,
        height=roof_height * 0.82,
    )
    for side in (-1, 1):
        window = [(foot - 0.25, side * wide), (rear + 0.3, side * wide), (end, side * narrow), (top, side * narrow)]
        drawing.polygon(window, SIDE_GLASS, height=roof_height * 0.85)
    drawing.polygon(
        [(foot, -wide * 0.9), (foot, wide * 0.9), (top, narrow), (top, -narrow)], GLASS, height=roof_height * 0.85
    )
    drawing.polygon(
        [(rear, -wide * 0.86), (rear, wide * 0.86), (end, narrow), (end, -narrow)], GLASS, height=roof_height * 0.85
    )
    drawing.polygon(
        [(top, -narrow), (top + 0.08, 0), (top, narrow), (end, narrow), (end, -narrow)], paint=1.0, height=roof_height
    )


def _mirrors(drawing: Drawing, x: float, half_width: float) -> None:
    for side in (-1, 1):
        inner, outer = sorted((side * half_width * 0.95, side * (half_width + 0.14)))
        drawing.box(x - 0.09, x + 0.09, inner, outer, TRIM, height=1.0, solid=True)


def _car(
    length: float, width: float, roof_height: float, marks: tuple[float, float, float, float], long_px: int
) -> Sprite:
    drawing = Drawing(length + 0.1, width + 0.4, long_px)
    half = length / 2
    foot, top, end, rear = (mark * half for mark in marks)
    _mirrors(drawing, foot - 0.25, width / 2)
    drawing.polygon(hull(length, width, 0.24, 0.16), TRIM, height=0.55, solid=True)
    drawing.polygon(hull(length - 0.12, width - 0.1, 0.26, 0.17), paint=0.97, height=0.85)
    drawing.polygon(
        [(foot, -width * 0.36), (foot, width * 0.36), (half - 0.3, width * 0.28), (half - 0.3, -width * 0.28)],
        paint=0.98,
        height=0.93,
    )
    _cabin(drawing, width / 2, (foot, top, end, rear), roof_height)
    _lights(drawing, half, -half, width / 2)
    return drawing.sprite(0.09)


def _pickup(long_px: int) -> Sprite:
    drawing = Drawing(5.4, 2.3, long_px)
    _mirrors(drawing, 0.8, 0.93)
    drawing.polygon(hull(5.3, 1.86, 0.2, 0.05), TRIM, height=0.7, solid=True)
    drawing.polygon(hull(5.18, 1.76, 0.22, 0.05), paint=0.97, height=1.0)
    _cabin(drawing, 0.93, (1.1, 0.55, -0.55, -0.75), 1.75)
    drawing.box(-2.5, -0.85, -0.72, 0.72, (58, 58, 60), height=0.7)
    _lights(drawing, 2.65, -2.65, 0.93)
    return drawing.sprite(0.08)


def _van(length: float, width: float, roof_height: float, ribs: int, long_px: int) -> Sprite:
    drawing = Drawing(length + 0.1, width + 0.45, long_px)
    half = length / 2
    _mirrors(drawing, half * 0.6, width / 2)
    drawing.polygon(hull(length, width, 0.2, 0.06, 0.09), TRIM, height=0.8, solid=True)
    drawing.polygon(hull(length - 0.1, width - 0.1, 0.22, 0.06, 0.09), paint=0.97, height=1.1)
    foot, top = half * 0.74, half * 0.50
    drawing.polygon(
        [(foot, -width * 0.41), (foot, width * 0.41), (top, width * 0.37), (top, -width * 0.37)], GLASS, height=1.8
    )
    drawing.box(-half + 0.12, top, -width * 0.43, width * 0.43, paint=0.98, height=roof_height)
    for index in range(ribs):
        x = top - (index + 1) * (top + half) / (ribs + 1)
        drawing.box(
            x - 0.05, x + 0.05, -width * 0.38, width * 0.38, (176, 178, 180), paint=0.55, height=roof_height + 0.05
        )
    _lights(drawing, half, -half, width / 2)
    return drawing.sprite(0.09)


def _cab(drawing: Drawing, front: float, length: float, width: float) -> None:
    body = hull(length, width, 0.14, 0.02, 0.1) + np.array([front - length / 2, 0])
    drawing.polygon(body, paint=1.0, height=2.7, solid=True)
    drawing.polygon(
        [
            (front - 0.12, -width * 0.42),
            (front - 0.12, width * 0.42),
            (front - 0.5, width * 0.4),
            (front - 0.5, -width * 0.4),
        ],
        GLASS,
        height=2.4,
    )
    drawing.box(
        front - length * 0.85,
        front - length * 0.6,
        -width * 0.25,
        width * 0.25,
        (200, 202, 204),
        paint=0.6,
        height=2.95,
    )
    _mirrors(drawing, front - 0.35, width / 2)


def _darker(color: Color, factor: float) -> Color:
    return round(color[0] * factor), round(color[1] * factor), round(color[2] * factor)


def _box_truck(length: float, cargo: Color, long_px: int) -> Sprite:
    drawing, half = Drawing(length + 0.1, 2.95, long_px), length / 2
    drawing.box(-half + 0.3, half - 1.0, -0.7, 0.7, TRIM, height=1.0, solid=True)
    _cab(drawing, half, 2.0, 2.35)
    drawing.box(-half, half - 2.25, -1.25, 1.25, _darker(cargo, 0.82), height=3.4, solid=True)
    drawing.box(-half + 0.08, half - 2.33, -1.15, 1.15, cargo, paint=0.06, height=3.5)
    for x in np.arange(-half + 1.2, half - 2.6, 1.2):
        drawing.box(x - 0.03, x + 0.03, -1.15, 1.15, _darker(cargo, 0.9), height=3.5)
    return drawing.sprite(0.06)


def _tipper(long_px: int, load: Color) -> Sprite:
    drawing = Drawing(8.3, 2.95, long_px)
    drawing.box(-3.9, 3.2, -0.8, 0.8, TRIM, height=1.0, solid=True)
    _cab(drawing, 4.1, 2.1, 2.4)
    drawing.box(-4.1, 1.8, -1.25, 1.25, paint=0.85, height=2.6, solid=True)
    drawing.box(-3.95, 1.6, -1.08, 1.08, (70, 66, 62), height=1.7)
    drawing.ellipse(-1.2, 0, 4.4, 1.9, load, height=2.5)
    return drawing.sprite(0.15)


def _flatbed(long_px: int) -> Sprite:
    drawing = Drawing(8.6, 2.95, long_px)
    _cab(drawing, 4.2, 2.0, 2.35)
    drawing.box(-4.2, 2.0, -1.22, 1.22, (118, 100, 80), height=1.3, solid=True)
    for y in np.arange(-1.0, 1.1, 0.33):
        drawing.box(-4.2, 2.0, y - 0.02, y + 0.02, (92, 78, 64), height=1.3)
    drawing.box(-3.4, -0.4, -0.9, 0.9, (150, 120, 84), height=2.2)
    drawing.box(0.1, 1.5, -0.8, 0.8, (120, 124, 126), height=2.0)
    return drawing.sprite(0.05)


def _bus(length: float, width: float, units: int, long_px: int) -> Sprite:
    drawing, half = Drawing(length + 0.1, width + 0.4, long_px), length / 2
    _mirrors(drawing, half - 0.25, width / 2)
    drawing.polygon(hull(length, width, 0.1, 0.05, 0.04), TRIM, height=2.6, solid=True)
    drawing.polygon(hull(length - 0.16, width - 0.14, 0.1, 0.05, 0.04), paint=0.96, height=3.1)
    drawing.box(half - 0.34, half - 0.1, -width * 0.42, width * 0.42, GLASS, height=2.8)
    drawing.box(-half + 0.5, half - 0.7, -width * 0.30, width * 0.30, (206, 208, 208), paint=0.75, height=3.2)
    for index in range(units):
        x = -half + (index + 0.7) * length / (units + 0.5)
        drawing.box(x - 0.8, x + 0.8, -width * 0.24, width * 0.24, (184, 186, 188), paint=0.25, height=3.45)
        drawing.box(x + 1.2, x + 1.8, -0.35, 0.35, (120, 122, 126), height=3.25)
    return drawing.sprite(0.08)


@cache
def vehicle_sprites(name: str) -> tuple[Sprite, ...]:
    """The models of one class, drawn at the first call."""
    if name == "car":
        return (
            _car(4.6, 1.82, 1.45, (0.44, 0.14, -0.46, -0.70), 128),
            _car(4.8, 1.86, 1.42, (0.40, 0.08, -0.50, -0.74), 128),
            _car(4.1, 1.76, 1.50, (0.50, 0.22, -0.72, -0.92), 112),
            _car(4.7, 1.90, 1.68, (0.46, 0.22, -0.76, -0.93), 128),
            _car(3.6, 1.66, 1.52, (0.58, 0.28, -0.74, -0.93), 112),
            _pickup(144),
        )
    if name == "van":
        return (_van(5.3, 1.98, 2.1, 0, 144), _van(5.9, 2.05, 2.5, 5, 160), _van(5.0, 1.92, 1.95, 2, 144))
    if name == "truck":
        return (
            _box_truck(8.4, (226, 226, 222), 176),
            _box_truck(7.2, (198, 200, 198), 160),
            _box_truck(10.2, (182, 152, 132), 208),
            _box_truck(9.0, (112, 138, 160), 192),
            _tipper(176, (184, 164, 128)),
            _tipper(176, (112, 108, 104)),
            _flatbed(176),
        )
    return (_bus(12.0, 2.55, 2, 224), _bus(11.0, 2.5, 1, 208), _bus(8.6, 2.3, 1, 176))


CAR_PAINTS: tuple[Color, ...] = (
    *((236, 236, 234),) * 5,
    *((188, 191, 194),) * 4,
    *((126, 130, 134),) * 3,
    *((38, 39, 42),) * 4,
    *((66, 70, 76),) * 2,
    *((150, 34, 34),) * 2,
    *((42, 62, 110),) * 2,
    (88, 116, 146),
    (176, 160, 132),
    (52, 76, 58),
    (206, 164, 52),
    (112, 66, 48),
)
VAN_PAINTS: tuple[Color, ...] = (
    *((236, 236, 234),) * 7,
    (190, 192, 194),
    (70, 74, 80),
    (44, 66, 116),
    (150, 36, 34),
    (212, 172, 56),
)
TRUCK_PAINTS: tuple[Color, ...] = (
    *((230, 230, 228),) * 3,
    (160, 36, 34),
    (48, 78, 132),
    (206, 140, 44),
    (70, 110, 78),
    (64, 66, 70),
)
BUS_PAINTS: tuple[Color, ...] = (
    *((228, 228, 224),) * 2,
    (196, 46, 40),
    (218, 178, 58),
    (80, 142, 92),
    (54, 96, 152),
    (150, 190, 120),
)

PAINTS: dict[str, tuple[Color, ...]] = {"car": CAR_PAINTS, "van": VAN_PAINTS, "truck": TRUCK_PAINTS, "bus": BUS_PAINTS}
