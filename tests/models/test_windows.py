"""Windows: round trips, regions after a shift, coordinates, pairwise tables."""

import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import windows


@pytest.mark.parametrize(("height", "width", "window"), [(6, 6, 3), (4, 10, 2)])
def test_reverse_undoes_partition(height, width, window):
    x = np.random.default_rng(0).random((2, height, width, 5), np.float32)
    parts = windows.partition(jnp.asarray(x), window)
    assert parts.shape == (2, height * width // window**2, window**2, 5)
    np.testing.assert_array_equal(windows.reverse(parts, window, height, width), x)


def test_partition_is_row_major():
    x = jnp.arange(4 * 6).reshape(1, 4, 6, 1)
    parts = windows.partition(x, 2)[0, :, :, 0]
    np.testing.assert_array_equal(parts[1], [2, 3, 8, 9])
    np.testing.assert_array_equal(parts[3], [12, 13, 18, 19])


def test_partition_rejects_sizes_that_do_not_tile():
    with pytest.raises(ValueError, match="multiples of 4, got 6 x 8"):
        windows.partition(jnp.zeros((1, 6, 8, 3)), 4)


def test_padding_is_zero_and_on_the_right_and_bottom():
    padded = windows.pad_to_multiple(jnp.ones((1, 3, 5, 2)), 4)
    assert padded.shape == (1, 4, 8, 2)
    assert padded[:, :3, :5].min() == 1
    assert float(padded.sum()) == 3 * 5 * 2
    untouched = jnp.ones((1, 4, 8, 2))
    assert windows.pad_to_multiple(untouched, 4) is untouched


def test_shift_regions_by_hand():
    # Rows 0..3 and columns 0..3, window 2, shift 1: row bands are 0 0 1 2.
    regions = windows.shift_regions(4, 4, window=2, shift=1)
    expected = [[0, 0, 0, 0], [1, 2, 1, 2], [3, 3, 6, 6], [4, 5, 7, 8]]
    np.testing.assert_array_equal(regions, expected)


def test_shift_regions_of_a_single_window():
    regions = windows.shift_regions(2, 2, window=2, shift=1)
    assert len(np.unique(regions)) == 4


@pytest.mark.parametrize(
    ("window", "pretrained", "largest"),
    [
        (12, 12, 1.05664),
        (22, 12, 1.34146),
        (11, 6, 1.36249),
        (30, 12, 1.48846),
        (15, 6, 1.51615),
    ],
)
def test_relative_coordinates_reach(window, pretrained, largest):
    table = windows.relative_coordinates(window, pretrained)
    assert table.shape == (2 * window - 1, 2 * window - 1, 2)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table.max(), largest, atol=5e-6)
    np.testing.assert_allclose(table.min(), -largest, atol=5e-6)
    np.testing.assert_array_equal(table[window - 1, window - 1], [0, 0])


def test_relative_coordinates_are_rows_first():
    table = windows.relative_coordinates(3, 3)
    np.testing.assert_array_equal(table[0, :, 0], table[0, 0, 0].repeat(5))
    np.testing.assert_array_equal(table[:, 0, 1], table[0, 0, 1].repeat(5))
    # Offset 1 of a window of 3: 1 / 2 * 8 = 4, log2(5) / log2(8).
    np.testing.assert_allclose(table[3, 0, 0], np.log2(5) / 3, rtol=1e-6)


def test_relative_coordinates_need_a_pretrained_window_of_two():
    with pytest.raises(ValueError, match="`pretrained_window` must be at least 2"):
        windows.relative_coordinates(4, 1)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_pairwise_equals_the_index_formula(window):
    length = 2 * window - 1
    table = np.random.default_rng(0).standard_normal((length, length, 3))
    expected = np.empty((3, window**2, window**2))
    for i in range(window**2):
        for j in range(window**2):
            rows = i // window - j // window
            columns = i % window - j % window
            expected[:, i, j] = table[rows + window - 1, columns + window - 1]
    pairs = windows.pairwise(jnp.asarray(table, jnp.float32))
    np.testing.assert_allclose(pairs, expected, rtol=1e-6)
