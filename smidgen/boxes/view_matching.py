"""Which detections of several views are one object: one to one between any two views, gathered around the best of them.

A view sees an object once. So two boxes of one view are never the same object, however much they overlap, and of two
views' boxes at most one of each is. That is what plain non-maximum suppression forgets where objects touch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from smidgen.boxes.overlapping_pairs import Pairs


def one_to_one(pairs: Pairs, views: Int[Tensor, " n"]) -> Pairs:
    """The pairs that remain when, from the greatest IoU down, each box takes at most one of each other view.

    views: of each box. Every round settles all pairs that are the best of both their boxes.
    """
    pairs = pairs[views[pairs.first] != views[pairs.second]]
    pairs = pairs[_greatest_first(pairs)]
    first, second, num_slots = _slots(pairs, views)
    chosen = torch.zeros(len(pairs), dtype=torch.bool)
    open_pairs = torch.arange(len(pairs))
    while len(open_pairs):
        best = torch.full((num_slots,), len(pairs))
        for slots in (first, second):
            best.scatter_reduce_(0, slots[open_pairs], open_pairs, "amin")
        won = (best[first[open_pairs]] == open_pairs) & (best[second[open_pairs]] == open_pairs)
        settled = open_pairs[won]
        chosen[settled] = True
        taken = torch.zeros(num_slots, dtype=torch.bool)
        taken[first[settled]] = taken[second[settled]] = True
        open_pairs = open_pairs[~(taken[first[open_pairs]] | taken[second[open_pairs]])]
    return pairs[chosen]


def leaders(links: Pairs, ranks: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For each box the box that speaks for it: itself where no linked box that leads has a better rank (0 = best).

    The outcome of going through the boxes by rank: whoever is free leads and takes what is free among its links.
    """
    by_rank = ranks.argsort()
    leader = torch.full_like(ranks, -1)
    one = ranks[torch.cat([links.first, links.second])]  # in terms of ranks from here on
    other = ranks[torch.cat([links.second, links.first])]
    while bool((leader < 0).any()):
        free = leader[one] < 0
        one, other = one[free], other[free]
        free = leader[other] < 0
        one, other = one[free], other[free]
        best = torch.arange(len(ranks)).scatter_reduce(0, one, other, "amin")
        leads = (leader < 0) & (best == torch.arange(len(ranks)))
        leader[leads] = torch.nonzero(leads)[:, 0]
        followers = leads[other]
        nearest = torch.full_like(leader, len(ranks)).scatter_reduce(0, one[followers], other[followers], "amin")
        leader = torch.where((leader < 0) & (nearest < len(ranks)), nearest, leader)
    return by_rank[leader[ranks]]


def ranked(*keys: Bool[Tensor, " n"] | Tensor) -> Int[Tensor, " n"]:
    """Rank of each row, 0 = best: greatest by the first key, then by the second, and so on; then the earlier row."""
    order = torch.arange(len(keys[0]))
    for key in reversed(keys):
        order = order[key[order].double().argsort(descending=True, stable=True)]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks


def _greatest_first(pairs: Pairs) -> Int[Tensor, " p"]:
    """Order by IoU; ties by rows, so that of equal boxes the first ones of two views find each other."""
    order = pairs.second.argsort(stable=True)
    order = order[pairs.first[order].argsort(stable=True)]
    return order[pairs.iou[order].argsort(descending=True, stable=True)]


def _slots(pairs: Pairs, views: Int[Tensor, " n"]) -> tuple[Tensor, Tensor, int]:
    """Numbers of (box, other view) for both boxes of each pair, and how many there are."""
    num_views = int(views.max()) + 1 if len(views) else 0
    places = torch.cat([pairs.first * num_views + views[pairs.second], pairs.second * num_views + views[pairs.first]])
    distinct, slots = torch.unique(places, return_inverse=True)
    first, second = slots.chunk(2) if len(pairs) else (slots, slots)
    return first, second, len(distinct)
