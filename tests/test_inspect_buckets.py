"""The best lists of buckets, against all lists."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate.inspection.buckets import best_buckets

Matrices = list[tuple[int, int]]


def cells(buckets: tuple[int, ...], matrices: Matrices) -> int:
    return sum(min(bucket for bucket in buckets if bucket >= width) * rows for width, rows in matrices)


def best(matrices: Matrices, most: int) -> list[int]:
    """The fewest cells with 1, 2, … buckets, all lists tried."""
    widths = sorted({width for width, _ in matrices})
    found = []
    for number in range(1, min(most, len(widths)) + 1):
        lists = [(*some, widths[-1]) for some in combinations(widths[:-1], number - 1)]
        found.append(min(cells(buckets, matrices) for buckets in lists))
    return found


@given(
    matrices=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=1, max_size=9),
    most=st.integers(1, 10),
)
def test_no_list_of_as_many_buckets_has_fewer_cells(matrices: Matrices, most: int) -> None:
    widths, rows = np.array(matrices, np.int64).T
    found = best_buckets(widths, rows, most)
    assert [padded for _, padded in found] == best(matrices, most)
    for number, (buckets, padded) in enumerate(found, 1):
        assert list(buckets) == sorted(set(buckets))
        assert buckets[-1] == max(widths)
        assert len(buckets) <= number
        assert cells(buckets, matrices) == padded


def test_many_widths_take_a_moment_and_numbers_are_exact() -> None:
    widths = np.arange(1, 12_001)
    found = best_buckets(widths, np.full(len(widths), 3_000_000_000_000), 4)
    # Of equally many of each width, buckets lie at equal distances.
    assert [buckets for buckets, _ in found] == [
        (12000,),
        (6000, 12000),
        (4000, 8000, 12000),
        (3000, 6000, 9000, 12000),
    ]
    assert found[3][1] == 3_000_000_000_000 * 3000 * (3000 + 6000 + 9000 + 12000)
