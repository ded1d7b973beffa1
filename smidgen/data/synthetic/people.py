"""People from above: head, shoulders, arms and the legs of a stride."""

from __future__ import annotations

from functools import cache

from smidgen.data.synthetic.sprite import Drawing, Sprite

SKIN = ((206, 164, 134), (166, 118, 88), (110, 76, 56))
HAIR = ((44, 34, 28), (30, 28, 28), (112, 84, 54), (176, 150, 104), (150, 148, 146))
TROUSERS = ((44, 50, 70), (36, 36, 40), (120, 110, 92), (86, 92, 104))

SHIRTS: tuple[tuple[int, int, int], ...] = (
    (224, 224, 220), (40, 42, 48), (168, 44, 42), (48, 78, 138), (92, 128, 86), (206, 176, 74), (120, 122, 128),
    (196, 128, 150), (66, 132, 148), (212, 120, 58), (236, 232, 214), (86, 62, 96),
)  # fmt: skip


def _person(stride: float, arms: float, skin: int, hair: int, trousers: int, backpack: bool) -> Sprite:
    """stride, arms: meters that a foot and the opposite arm reach forward."""
    drawing = Drawing(1.0, 0.75, 80)
    for side in (-1, 1):
        drawing.ellipse(side * stride, side * 0.11, 0.36, 0.15, TROUSERS[trousers], height=0.5, solid=True)
        drawing.ellipse(side * stride + 0.14, side * 0.11, 0.18, 0.10, (40, 36, 34), height=0.2, solid=True)
        drawing.ellipse(-side * arms, side * 0.25, 0.30, 0.13, SKIN[skin], height=1.0, solid=True)
        drawing.ellipse(-side * arms * 0.4, side * 0.22, 0.22, 0.16, height=1.3, solid=True, paint=0.95)
    drawing.ellipse(0, 0, 0.29, 0.50, height=1.45, solid=True, paint=1.0)
    if backpack:
        drawing.ellipse(-0.17, 0, 0.22, 0.32, (64, 70, 62), height=1.4, solid=True)
    drawing.ellipse(0.09, 0, 0.14, 0.14, SKIN[skin], height=1.6)
    drawing.ellipse(0.03, 0, 0.22, 0.19, HAIR[hair], height=1.75)
    return drawing.sprite(0.03)


@cache
def person_sprites() -> tuple[Sprite, ...]:
    """Standing and walking people, drawn at the first call."""
    return (
        _person(0.02, 0.02, 0, 0, 0, False),
        _person(0.16, 0.12, 0, 2, 1, False),
        _person(-0.18, -0.13, 1, 1, 2, False),
        _person(0.12, 0.10, 2, 1, 0, True),
        _person(0.05, -0.05, 1, 3, 3, False),
        _person(-0.10, -0.10, 0, 4, 1, True),
    )
