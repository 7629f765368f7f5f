"""Edges of decoding that only an exact expectation shows: orientation out of range, sides of length 0, one channel."""

import io

import numpy as np
import pytest
from PIL import Image

from xraypneu.data.image import ImageError, colour, read_radiograph, to_square


def png(image, **kw):
    file = io.BytesIO()
    image.save(file, "PNG", **kw)
    return file.getvalue()


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_out_of_range_leaves_the_picture_as_it_is(value):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = value
    r = read_radiograph(png(Image.fromarray(pixels), exif=exif))
    assert (r.width, r.height) == (4, 3) and np.array_equal(r.pixels, pixels)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (0, 5, 3)])
def test_a_picture_without_pixels_is_empty(shape):
    with pytest.raises(ImageError) as caught:
        read_radiograph(np.zeros(shape, np.uint8))
    assert caught.value.code == "empty"


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_one_pixel_is_a_picture(shape):
    r = read_radiograph(np.full(shape, 9, np.uint8))
    assert r.pixels.tolist() == np.full(shape, 9).tolist() and (r.height, r.width) == shape


@pytest.mark.parametrize(
    "ink, grey",
    [((0, 0, 0, 0), 255), ((255, 0, 0, 0), 179), ((0, 255, 0, 0), 105), ((0, 0, 255, 0), 226), ((0, 0, 0, 255), 0)],
)
def test_inks_as_grey(ink, grey):
    assert read_radiograph(Image.new("CMYK", (2, 2), ink)).pixels.tolist() == [[grey] * 2] * 2


@pytest.mark.parametrize("channel, weight", [(0, 0.299), (1, 0.587), (2, 0.114)])
def test_colours_as_grey(channel, weight):
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[..., channel] = 200
    want = np.full((2, 3), round(200 * weight))
    assert np.array_equal(read_radiograph(rgb).pixels, want)
    assert np.array_equal(read_radiograph(png(Image.fromarray(rgb))).pixels, want)


@pytest.mark.parametrize(
    "dtype, values, grey",
    [
        (np.uint16, [100, 1100, 600], [0, 255, 128]),
        (np.float32, [0, 1, 0.5], [0, 255, 128]),
        (np.float64, [0.2, 0.4, 0.6], [51, 102, 153]),
    ],
)
def test_levels_of_arrays(dtype, values, grey):
    assert read_radiograph(np.array([values], dtype)).pixels.tolist() == [grey]


def test_to_square_takes_grey_alone():
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16), np.zeros(4, np.uint8)):
        with pytest.raises(ImageError):
            to_square(wrong, 2)
    assert to_square(np.repeat([[10, 30]], 2, 0).astype(np.uint8), 2).tolist() == [[10, 30]] * 2


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colour_is_the_larger_difference_from_green(channel):
    "Halves of 64 x 64 pixels that differ by 20 in one channel: a standard deviation of 10, whichever channel it is."
    rgb = np.full((64, 64, 3), 100, np.uint8)
    rgb[:32, :, channel] += 20
    assert colour(rgb) == pytest.approx(10) and colour(png(Image.fromarray(rgb))) == pytest.approx(10)
    opposite = np.full((64, 64, 3), 100, np.uint8)
    opposite[:32, :, 0] += 20
    opposite[:32, :, 2] += 20  # red and blue together: no difference between them, and 10 from green
    assert colour(opposite) == pytest.approx(10)
    purple = np.full((64, 64, 3), 100, np.uint8)
    purple[:32] += np.array([20, 0, 10], np.uint8)
    assert colour(purple) == pytest.approx(10)


@pytest.mark.parametrize("size", [0, -1, 4097, 1_000_000])
def test_a_square_has_a_limit(size):
    with pytest.raises(ImageError, match="1 to 4096"):
        to_square(np.zeros((4, 4), np.uint8), size)


def test_a_range_without_an_end_is_refused():
    for values in ([[0, np.inf]], [[-np.inf, 0]], [[np.nan, 0]]):
        with pytest.raises(ImageError):
            read_radiograph(np.array(values, np.float32))


def test_a_coloured_picture_is_measured_in_any_mode():
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, :64, 0] = 200
    image = Image.fromarray(half)
    for mode in ("RGB", "YCbCr", "CMYK", "HSV", "P", "RGBA"):
        assert read_radiograph(image.convert(mode), with_colour=True).colour > 40, mode
