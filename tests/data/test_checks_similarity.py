"""Near copies: bands of bits find the pairs that comparing all pairs finds, and plain pictures are no copies."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted_defects import encoded, picture

from smidgen.data.checks.fingerprints import Fingerprint, fingerprint
from smidgen.data.checks.similarity import MOST_DIFFERENT_BITS, Hashes, different_bits, similar_images


def hashes(gradient: np.ndarray, split: np.ndarray, thumbnail: np.ndarray | None = None) -> Hashes:
    """All with the same small gray copy, unless others are given, so that only the bits count."""
    count = len(gradient)
    same = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (count, 16, 16))
    return Hashes(gradient, same if thumbnail is None else thumbnail, np.arange(count), split)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 3))
def test_every_image_with_a_near_copy_before_it_is_found(seed: int, count: int, num_splits: int) -> None:
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 2**64, 3, dtype=np.uint64)
    flips = np.array([sum(1 << int(bit) for bit in generator.integers(0, 64, 4)) % 2**64 for _ in range(count)])
    gradient = base[generator.integers(0, 3, count)] ^ flips.astype(np.uint64)
    split = np.sort(generator.integers(0, num_splits, count))
    same, across = similar_images(hashes(gradient, split))
    for pairs, wanted in ((same, True), (across, False)):
        expected = {}
        for first, second in itertools.combinations(range(count), 2):
            bits = (int(gradient[first]) ^ int(gradient[second])).bit_count()
            if bits <= MOST_DIFFERENT_BITS and (split[first] == split[second]) == wanted:
                expected.setdefault(second, []).append(bits)
        # Images of one split with equal hashes are stood for by the first of them.
        repeats = {
            i for i in range(count) if any(gradient[j] == gradient[i] and split[j] == split[i] for j in range(i))
        }
        found = {pair.second: pair.bits for pair in pairs}
        if wanted:
            assert found == {second: min(bits) for second, bits in expected.items()}
        else:
            assert found == {second: min(bits) for second, bits in expected.items() if second not in repeats}


def test_bits_are_counted() -> None:
    one, other = np.array([0, 2**64 - 1, 5], dtype=np.uint64), np.array([0, 0, 6], dtype=np.uint64)
    assert different_bits(one, other).tolist() == [0, 64, 2]


def test_equal_files_and_plain_pictures_are_no_near_copies() -> None:
    gradient, split = np.zeros(2, dtype=np.uint64), np.zeros(2, dtype=np.int64)
    plain = np.full((2, 16, 16), 255, dtype=np.uint8)
    plain[0, 3, 4] = plain[1, 9, 12] = 60
    assert similar_images(hashes(gradient, split, plain)) == ([], [])
    equal = hashes(gradient, split)
    assert similar_images(Hashes(gradient, equal.thumbnail, np.zeros(2, dtype=np.int64), split)) == ([], [])
    assert len(similar_images(equal)[0]) == 1


def test_many_equal_hashes_stay_fast() -> None:
    count = 4_000
    generator = np.random.default_rng(0)
    gradient = np.where(np.arange(count) % 2, 7, generator.integers(0, 2**64, count, dtype=np.uint64)).astype(np.uint64)
    same, _ = similar_images(hashes(gradient, np.zeros(count, dtype=np.int64)))
    assert len(same) == count // 2 - 1 and all(pair.first == 1 for pair in same)


def of(image: Image.Image) -> Fingerprint:
    return fingerprint(encoded(image, "PNG"), image)


def test_a_fingerprint_survives_size_and_compression_but_not_another_picture() -> None:
    original = of(picture(1, (400, 300)))
    for changed in (picture(1, (400, 300)).resize((200, 150)), picture(1, (400, 300)).convert("L")):
        assert (original.gradient ^ of(changed).gradient).bit_count() <= MOST_DIFFERENT_BITS
        assert original.content != of(changed).content
    assert (original.gradient ^ of(picture(2)).gradient).bit_count() > 10


def test_sixteen_bit_values_are_scaled() -> None:
    gray = np.asarray(picture(3).convert("L"), dtype=np.uint16)
    deep, flat = of(Image.fromarray(gray * 257)), of(Image.fromarray(gray.astype(np.uint8)))
    assert deep.gradient == flat.gradient
    np.testing.assert_array_equal(deep.thumbnail, flat.thumbnail)
