"""Files of the OpenEXR library are read exactly, and what cannot be is named."""

from contextlib import suppress

import numpy as np
import pytest

from amlr_jax.data.exr import read_channel
from tests.data.exr_files import PIXELS, content


@pytest.mark.parametrize("name", ["none16", "rle32", "zips16", "zip32", "grey"])
def test_pixels_are_exact(name):
    channel = read_channel(content(name))
    assert channel.dtype == np.float32
    np.testing.assert_array_equal(channel, PIXELS)


def test_channels_by_name():
    data = content("layers")
    np.testing.assert_array_equal(read_channel(data), PIXELS)  # depth.Z
    np.testing.assert_array_equal(read_channel(data, name="G"), PIXELS + 1)
    with pytest.raises(ValueError, match="no channel 'Q' among B, G, R, depth.Z"):
        read_channel(data, name="Q")


def test_compression_that_is_not_read():
    with pytest.raises(ValueError, match="compression PIZ; write it with ZIP"):
        read_channel(content("piz32"))


def test_tiles_are_not_read():
    data = bytearray(content("zip32"))
    data[5] |= 0x02  # the flag of tiles in the version field
    with pytest.raises(ValueError, match="tiled, deep or multi-part"):
        read_channel(bytes(data))


def test_three_colours_that_differ():
    data = content("grey").replace(b"G\0", b"H\0", 1)
    with pytest.raises(ValueError, match="channels B, H, R: name the depth"):
        read_channel(data)


@pytest.mark.parametrize("name", ["none16", "rle32", "zips16", "zip32"])
def test_every_cut_is_a_value_error(name):
    data = content(name)
    for length in range(0, len(data), 7):
        with pytest.raises(ValueError):
            read_channel(data[:length])


def test_flipped_bytes_never_end_otherwise():
    """Damage gives other pixels or ValueError, and nothing else."""
    data = content("zip32")
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        with suppress(ValueError):
            read_channel(bytes(broken))
