"""Untrusted files: every kind of picture that is read, and every kind that is refused."""

import base64
import os
import pickle
import struct
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import fuzz
import numpy as np
import pytest
from conftest import refusal
from PIL import Image, ImageFile, ImageOps
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_windowing, get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from xraypneu.data import image as module
from xraypneu.data.decoder import decode
from xraypneu.data.image import ImageError, Radiograph, colour, read_bytes, read_radiograph, to_square

H, W = 48, 64
GREY = (np.add.outer(np.arange(H) * 3, np.arange(W)) % 256).astype(np.uint8)
GREY[:8, :20] = 255  # nothing is symmetric


def encode(picture, format="PNG", **kw):
    b = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(b, format, **kw)
    return b.getvalue()


def refused(source, code, text=None, **kw):
    "The `ImageError` that reading raises."
    with refusal(ImageError, code, text) as e:
        read_radiograph(source, **kw)
    return e.value


def saved(ds):
    "The bytes of a data set of pydicom."
    file = BytesIO()
    ds.save_as(file)
    return file.getvalue()


def near(a, b, levels):
    return np.abs(a.astype(int) - b.astype(int)).max() <= levels


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format,kw,mode,levels",
    [
        ("PNG", {}, "L", 0),
        ("PNG", {}, "RGB", 0),
        ("PNG", {}, "RGBA", 0),
        ("PNG", {}, "LA", 0),
        ("PNG", {}, "P", 0),
        ("JPEG", {"quality": 98}, "L", 6),
        ("JPEG", {"quality": 98}, "RGB", 6),
        ("JPEG", {"quality": 98}, "CMYK", 8),
        ("JPEG", {"quality": 98, "progressive": True}, "L", 6),
        ("TIFF", {}, "L", 0),
        ("TIFF", {"compression": "tiff_lzw"}, "RGB", 0),
        ("BMP", {}, "L", 0),
        ("BMP", {}, "RGB", 0),
        ("WEBP", {"lossless": True}, "RGB", 0),
    ],
)
def test_formats(format, kw, mode, levels):
    picture = Image.fromarray(GREY) if mode != "CMYK" else Image.fromarray(GREY).convert("RGB")
    r = read_radiograph(encode(picture.convert(mode), format, **kw))
    assert isinstance(r, Radiograph) and r.pixels.dtype == np.uint8 and r.pixels.shape == (H, W)
    assert (r.width, r.height, r.mode, r.format) == (W, H, mode, format)
    assert near(r.pixels, GREY, levels)


def test_one_bit():
    r = read_radiograph(encode(Image.fromarray(GREY > 100)))
    assert r.mode == "1" and (r.pixels == (GREY > 100) * 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_and_it_is_said(format):
    twelve = GREY.astype(np.uint16) * 10 + 300
    r = read_radiograph(encode(twelve, format))
    assert r.mode == "I;16" and (r.pixels.min(), r.pixels.max()) == (0, 255) and "minimum" in r.notes[0]
    assert near(r.pixels, (GREY - float(GREY.min())) / np.ptp(GREY) * 255, 1)
    assert (read_radiograph(twelve).pixels == r.pixels).all()


def test_transparent_is_black():
    alpha = np.where(np.arange(W) < 30, 255, 0).astype(np.uint8)[None].repeat(H, 0)
    expected = np.where(alpha, GREY, 0)
    assert (read_radiograph(encode(np.dstack([GREY] * 3 + [alpha]))).pixels == expected).all()
    assert (
        read_radiograph(encode(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]))).pixels == expected
    ).all()
    palette = Image.fromarray(GREY).convert("P")
    assert (read_radiograph(encode(palette, transparency=255)).pixels[:8, :20] == 0).all()
    assert (read_radiograph(encode(Image.fromarray(GREY), transparency=255)).pixels[:8, :20] == 0).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation(turn, format):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(GREY, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("L"))
    r = read_radiograph(data)
    assert (r.pixels == expected).all() and (r.height, r.width) == expected.shape
    assert (read_radiograph(Image.open(BytesIO(data))).pixels == expected).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_refuse():
    data = encode(GREY, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert read_radiograph(data).pixels.shape == (H, W)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_min_side_scales_while_decoding(mode):
    big = Image.fromarray(GREY).resize((1600, 1200), Image.Resampling.BICUBIC).convert("RGB").convert(mode)
    data = encode(big, "JPEG", quality=90)
    full, small = read_radiograph(data), read_radiograph(data, min_side=100)
    assert full.pixels.shape == (1200, 1600) and small.pixels.shape == (300, 400)
    assert (small.width, small.height, small.mode) == (1600, 1200, mode)
    assert near(to_square(full.pixels, 100), to_square(small.pixels, 100), 8)
    assert min(read_radiograph(data, min_side=1000).pixels.shape) >= 1000


def bmp_with_alpha(grey, alpha):
    "A BMP of 32 bits whose header names an alpha channel, as Pillow doesn't write it."
    pixels = np.dstack([grey, grey, grey, np.full_like(grey, alpha)])[::-1].tobytes()
    info = struct.pack("<IiiHHIIiiII", 108, grey.shape[1], grey.shape[0], 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    info += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = info.ljust(108, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + 108 + len(pixels), 0, 0, 14 + 108) + info + pixels


def test_a_bmp_whose_alpha_is_zero_throughout_is_opaque():
    "Programs leave the fourth byte unused: before, the picture was black, and no chest radiograph."
    for alpha, notes in ((0, ()), (255, ()), (128, ("transparency became black",))):
        r = read_radiograph(bmp_with_alpha(GREY, alpha))
        assert r.mode == "RGBA" and r.notes == notes
        assert near(r.pixels, GREY if alpha in (0, 255) else GREY // 2, 1)
    clear = Image.fromarray(np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)]))
    assert not read_radiograph(encode(clear)).pixels.any(), "a PNG that says so is transparent"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "I;16", "LA"])
@pytest.mark.parametrize("turn", [1, 2, 6])
def test_square_is_to_square_of_the_pixels(mode, format, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GREY).convert(mode)
    try:
        data = encode(picture, format, exif=exif)
    except (OSError, KeyError):
        return  # the format doesn't have this mode
    whole, small = (read_radiograph(data, 20, with_colour=True, square=square) for square in (None, 20))
    assert (to_square(small.pixels, 20) == to_square(whole.pixels, 20)).all()
    assert replace(small, pixels=None).__dict__ == replace(whole, pixels=None).__dict__
    if mode == "L" and turn == 1:
        assert small.pixels.shape == (20, 20)  # the whole picture was not copied


def test_min_side_leaves_the_callers_picture_alone():
    picture = Image.open(BytesIO(encode(np.zeros((900, 900), np.uint8), "JPEG")))
    assert read_radiograph(picture, min_side=50).pixels.shape == (900, 900) == picture.size


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[..., None],
        np.dstack([GREY] * 3),
        GREY / 255,
        (GREY / 255).astype(np.float32),
        np.dstack([GREY / 255] * 3),
    ],
)
def test_arrays(array):
    r = read_radiograph(array)
    assert (r.pixels == GREY).all() and (r.width, r.height, r.format) == (W, H, "array")
    r.pixels[:] = 0  # ours, not the caller's
    assert array.max() > 0


def test_paths_and_bytes_are_the_same(tmp_path):
    data = encode(GREY)
    (tmp_path / "a.png").write_bytes(data)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), data, bytearray(data), memoryview(data)):
        assert (read_radiograph(source).pixels == GREY).all()


def test_many_threads():
    jobs = [encode(np.roll(GREY, i), f) for i in range(20) for f in ("PNG", "BMP")] + [dicom(GREY), b"no picture"]

    def read(data):
        try:
            return read_radiograph(data).pixels.tobytes()
        except ImageError as e:
            return str(e)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, jobs)) == list(map(read, jobs))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_path_errors_each_say_what_is_wrong(tmp_path):
    (tmp_path / "empty.jpeg").touch()
    (tmp_path / "notes.png").write_text("Größe: 12\n" * 500, "utf-8")
    refused(tmp_path / "none.png", "missing", r"^none\.png: there is no such file")
    refused(tmp_path, "directory", "this is a folder")
    refused(tmp_path / "empty.jpeg", "empty", r"^empty\.jpeg: the file is empty")
    refused(tmp_path / "notes.png", "not_image", r"^notes\.png: this is a text file")
    refused("/dev/null", "not_image", "not a regular file")
    with pytest.raises(ImageError):
        read_radiograph("a\0b")
    refused("a" * 5000, "unreadable", "can't be opened")


@pytest.mark.parametrize(
    "data,code,text",
    [
        (b"", "empty", "data is empty"),
        (b"%PDF-1.7 x", "unsupported", "PDF"),
        (b"PK\x03\x04 x", "unsupported", "zip"),
        (b"GIF89a....", "unsupported", "GIF"),
        (b"\0\0\0\x18ftypheic....", "unsupported", "HEIF"),
        (b"<html></html>", "not_image", "text file"),
        (bytes(range(256)) * 4, "not_image", "this is not a picture"),
        (b"\x89PNG\r\n\x1a\n", "unreadable", "header"),
    ],
)
def test_other_bytes(data, code, text):
    refused(data, code, text)


def test_allowed_formats_only():
    for format in ("GIF", "PPM", "ICO", "TGA", "JPEG2000"):
        with pytest.raises(ImageError):
            read_radiograph(encode(Image.fromarray(GREY).convert("RGB"), format))


def test_other_types():
    refused(None, "unsupported", "NoneType")
    refused([1, 2], "unsupported", "a list is not a picture")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("keep", [0.98, 0.5])
def test_truncated(format, keep):
    data = encode(np.random.default_rng(0).integers(0, 256, (200, 300), dtype=np.uint8), format)
    with pytest.raises(ImageError) as e:
        read_radiograph(data[: int(len(data) * keep)])
    assert e.value.code in ("truncated", "unreadable") and e.value.hint
    with pytest.raises(ImageError):
        read_radiograph(data[: int(len(data) * keep)], min_side=50)


def test_truncated_stays_refused_where_another_library_allowed_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for format in ("JPEG", "PNG"):
        data = encode(np.random.default_rng(0).integers(0, 256, (200, 300), dtype=np.uint8), format)
        refused(data[: len(data) // 2], "truncated", "cut off")


def test_garbage_in_the_middle_is_an_image_error_or_a_picture():
    rng = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DICOM"):
        data = dicom(GREY) if format == "DICOM" else encode(GREY, format)
        for _ in range(40):
            bad = bytearray(data)
            for i in rng.integers(0, len(bad), 8):
                bad[i] = rng.integers(256)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert read_radiograph(bytes(bad)).pixels.dtype == np.uint8
            except ImageError:
                pass


def chunk(kind, body):
    "A part of a PNG."
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(raw, size=(W, H), depth=8, colour=0, interlaced=0, extra=b""):  # extra: another header
    "A valid PNG whose pixels are these bytes; colour: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)) + extra
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def png_claiming(width, height):
    "A PNG of a few bytes that says it is large."
    return png_of(bytes(1000), (width, height))


@pytest.mark.parametrize("filter", ["ignore", "error"])
@pytest.mark.parametrize("side", [8_001, 9_500, 60_000])  # below Pillow's warning, above it, above its error
def test_too_many_pixels_are_refused_before_decoding(side, filter, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter(filter)
        refused(png_claiming(side, side), "too_large", "64,000,000")


def test_arrays_and_pictures_have_the_same_limit():
    refused(np.broadcast_to(np.uint8(0), (9000, 9000)), "too_large")
    refused(Image.new("1", (9000, 9000)), "too_large")


def test_too_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encode(GREY))
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: pytest.fail("read"))
    refused(tmp_path / "a.png", "too_large", "bytes are more than the 100 allowed")
    refused(encode(GREY), "too_large", "bytes are more than the 100 allowed")


def test_too_many_scans():
    data = encode(GREY, "JPEG", progressive=True)
    refused(data[:-2] + b"\xff\xda\0\2" * 200 + data[-2:], "too_large", "100 or more scans")


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_several_pictures(format):
    refused(
        encode(GREY, format, save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())]),
        "multiframe",
        "more than one picture",
    )


def test_a_phones_preview_is_no_second_picture():
    r = read_radiograph(
        encode(GREY, "MPO", save_all=True, append_images=[Image.fromarray(GREY[:8, :8].copy())]), min_side=10
    )
    assert (r.width, r.height) == (W, H)


@pytest.mark.parametrize(
    "array,text",
    [
        (np.zeros(5, np.uint8), "not one picture"),
        (np.zeros((2, 5, 5, 3), np.uint8), "not one picture"),
        (np.zeros((5, 5, 2), np.uint8), "not one picture"),
        (np.zeros((5, 5, 4), np.uint8), "not one picture"),
        (np.zeros((5, 5, 3), np.uint16), "not one picture"),
        (np.zeros((5, 5), int), "ambiguous"),
        (np.zeros((5, 5), bool), "ambiguous"),
        (np.full((5, 5), 1.01), "0..1"),
        (np.full((5, 5), -0.01), "0..1"),
        (np.full((5, 5), np.nan), "0..1"),
        (np.zeros((0, 5), np.uint8), "no pixels"),
        (np.zeros((5, 5), object), "ambiguous"),
    ],
)
def test_other_arrays(array, text):
    refused(array, "empty" if not array.size else "unsupported", text)


def test_nan_in_a_float_tiff():
    a = GREY.astype(np.float32)
    assert (read_radiograph(encode(a, "TIFF")).pixels == read_radiograph(GREY.astype(np.uint16)).pixels).all()
    a[3, 3] = np.nan
    refused(encode(a, "TIFF"), "unsupported", "finite")


def test_errors_name_the_file_safely():
    e = refused(b"x", "not_image", name="/secret/folder/a\n\x1b[31m\u202egnp." + "x" * 500)
    assert e.name.startswith("a\ufffd\ufffd[31m\ufffdgnp.") and len(e.name) <= 120 and str(e).isprintable()
    again = pickle.loads(pickle.dumps(e))
    assert (str(again), again.code, again.name) == (str(e), e.code, e.name)


def test_pixels_are_never_shown():
    r = read_radiograph(GREY)
    assert "pixels" not in repr(r) and "[" not in repr(r)


def test_read_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert read_bytes(tmp_path / "a") == b"123"


# --- DICOM ------------------------------------------------------------------------------------------------------------


def dicom(*args, **tags):
    "The bytes of a DICOM file of somebody."
    return fuzz.dicom(*args, **{"PatientName": "Secret^Patient", "PatientID": "Secret77"} | tags)


TWELVE = GREY.astype(np.uint16) * 16


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_dicom_uncompressed(syntax):
    r = read_radiograph(dicom(GREY, syntax))
    assert (r.width, r.height, r.mode, r.format, r.notes) == (W, H, "MONOCHROME2", "DICOM", ())
    assert (r.pixels == GREY).all()
    r = read_radiograph(dicom(TWELVE, syntax, bits=12))
    assert (r.pixels == read_radiograph(TWELVE).pixels).all() and "minimum" in r.notes[0]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_dicom_without_preamble(syntax):
    "Neither preamble and mark, nor the first group, are missed; what is no DICOM stays what it is."
    whole = dicom(TWELVE, syntax, bits=12, Modality="DX", WindowCenter=1000, WindowWidth=2000)
    expected, bare = read_radiograph(whole), whole[132:]
    length = int.from_bytes(bare[8:12], "little")  # of the first group
    for data in (bare, bare[12 + length :]):
        r = read_radiograph(data)
        assert (r.pixels == expected.pixels).all() and r.format == "DICOM"
    with pytest.raises(ImageError, match="cut off"):
        read_radiograph(bare[:-1000])
    with pytest.raises(ImageError, match="is not a picture"):
        read_radiograph(b"\x08\0\x05\0" + b"\xff" * 500)


def test_deep_values_follow_shutter_padding_and_inversion():
    values = TWELVE.copy()
    values[:, :50] = 0
    data = dicom(values, ExplicitVRLittleEndian, bits=12, photometric="MONOCHROME1", PixelPaddingValue=0)
    assert read_radiograph(data).deep is None  # only where it is asked for
    deep = read_radiograph(data, deep=10_000).deep
    assert deep.inverted and (deep.values[:, :50] == 0).all() and (deep.values[:, 50:] > 0).any()
    inside = values[:, 60:].astype(float)
    assert (deep.low + deep.step * (deep.values[:, 60:] - 1.0) == inside)[inside > 0].all()
    small = read_radiograph(data, deep=64).deep
    assert max(small.values.shape) == 64


@pytest.mark.parametrize("bits", [8, 12])
def test_the_window_of_a_look_up_table_begins_with_what_is_shown(bits):
    "Before, the first change showed the values without their table: the picture jumped."
    curve = (255 * (np.arange(4096) / 4095) ** 2.2).astype(int) * (2**bits - 1) // 255
    r = read_radiograph(dicom(TWELVE, bits=12, VOILUTSequence=[table(curve.tolist(), bits=bits, vr="OW")]), deep=10_000)
    if bits == 8:  # the preview has them all
        assert r.deep is None
        return
    assert (r.deep.center, r.deep.width, r.deep.function) == (2047.5, 4095, "LINEAR_EXACT")
    assert near(
        module._window(r.deep.low + r.deep.step * (r.deep.values - 1.0), 2047.5, 4095, "LINEAR_EXACT"), r.pixels, 1
    )


def test_dicom_monochrome1_is_inverted():
    assert (read_radiograph(dicom(255 - GREY, photometric="MONOCHROME1")).pixels == GREY).all()


def test_dicom_eight_bits_are_shown_as_they_are():
    dull = GREY // 4 + 50
    assert (read_radiograph(dicom(dull)).pixels == dull).all()
    assert (read_radiograph(dicom(dull, RescaleSlope=1, RescaleIntercept=0)).pixels == dull).all()


def test_dicom_signed_and_rescaled():
    signed = TWELVE.astype(np.int16) - 2000
    r = read_radiograph(dicom(signed, RescaleSlope=2, RescaleIntercept=-1000))
    assert (r.pixels == read_radiograph(TWELVE).pixels).all()
    r = read_radiograph(dicom(signed, RescaleSlope=-1, RescaleIntercept=0))
    assert near(255 - r.pixels, read_radiograph(TWELVE).pixels, 1)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope,intercept", [(1, 0), (2, -1000)])
def test_dicom_window_is_pydicoms(function, slope, intercept):
    data = dicom(
        TWELVE,
        bits=12,
        WindowCenter=[1500, 9],
        WindowWidth=[1200, 9],
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    ds = dcmread(BytesIO(data))
    shown = apply_windowing(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = intercept, 4095 * slope + intercept
    assert near(read_radiograph(data).pixels, np.rint((shown - low) / (high - low) * 255), 1)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    "given, used", [("linear", "LINEAR"), ("Sigmoid ", "SIGMOID"), (["SIGMOID", "LINEAR"], "SIGMOID")]
)
def test_dicom_window_functions_in_other_letters(given, used):
    films = [dicom(TWELVE, bits=12, WindowCenter=1500, WindowWidth=1200, VOILUTFunction=f) for f in (given, used)]
    odd, plain = map(read_radiograph, films)
    assert (odd.pixels == plain.pixels).all() and odd.notes == plain.notes


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("given", ["GAMMA", "SIGMOID_2", "Doe^Jane"])
def test_a_dicom_window_function_that_the_standard_does_not_know(given):
    "Before, it was taken for LINEAR_EXACT without a word. Its text is not quoted: it may name somebody."
    settings = {"bits": 12, "WindowCenter": 1500, "WindowWidth": 8}
    odd, plain = (
        read_radiograph(dicom(TWELVE, **settings, **more), deep=64) for more in ({"VOILUTFunction": given}, {})
    )
    assert (odd.pixels == plain.pixels).all() and odd.deep.function == "LINEAR"
    assert set(odd.notes) - set(plain.notes) == {module._ODD_FUNCTION} and given not in module._ODD_FUNCTION


def test_dicom_look_up_tables():
    lut = table([255 - i for i in range(256)], bits=8)
    assert (read_radiograph(dicom(GREY.astype(np.uint16), VOILUTSequence=[lut])).pixels == 255 - GREY).all()
    lut.ModalityLUTType = "US"
    assert (
        read_radiograph(dicom(GREY, ModalityLUTSequence=[lut], WindowCenter=128, WindowWidth=256)).pixels == 255 - GREY
    ).all()


def table(entries, first=0, bits=16, vr="US", first_vr="US"):
    "An item of a look-up table sequence."
    item = Dataset()
    item.add_new(0x00283002, first_vr, [len(entries) % 65536, first, bits])
    item.add_new(0x00283006, vr, entries if vr == "US" else np.asarray(entries, np.uint16).tobytes())
    return item


FALLING = [255 - v // 16 for v in range(4096)]  # 8 bits
SIGNED = (TWELVE.astype(int) * 16 - 32768).astype(np.int16)
DEEP = [65535 - v for v in range(65536)]


@pytest.mark.parametrize(
    "pixels, bits, tags",
    [
        (TWELVE, 12, {"VOILUTSequence": [table(FALLING, bits=8)]}),
        (TWELVE, 12, {"VOILUTSequence": [table([v * 257 for v in FALLING], vr="OW")]}),
        (TWELVE, 12, {"VOILUTSequence": [table([v * 257 for v in FALLING], bits=12)]}),  # the bits are counted wrong
        (
            TWELVE,
            12,
            {
                "ModalityLUTSequence": [table([v * 4 for v in FALLING], bits=10)],
                "WindowCenter": 512,
                "WindowWidth": 1021,
                "VOILUTFunction": "LINEAR_EXACT",
            },
        ),
        (SIGNED, 16, {"VOILUTSequence": [table(DEEP, -32768, vr="OW", first_vr="SS")]}),
        (
            SIGNED,
            16,
            {
                "ModalityLUTSequence": [table(DEEP, -32768, vr="OW", first_vr="SS")],
                "WindowCenter": 32768,
                "WindowWidth": 65536,
            },
        ),
        (SIGNED, 16, {"VOILUTSequence": [table(DEEP, 32768, vr="OW")]}),  # -32768 with the VR of unsigned pixels
        (TWELVE, 12, {"RescaleSlope": 1, "RescaleIntercept": -2048, "VOILUTSequence": [table(FALLING, 63488, bits=8)]}),
        (TWELVE, 12, {"RescaleSlope": 64, "RescaleIntercept": 0, "VOILUTSequence": [table(DEEP, vr="OW")]}),
    ],
)
def test_dicom_look_up_tables_count_their_positions_whole(pixels, bits, tags):
    "pydicom counts them in 8 or 16 bits, where they wrap, and shows another picture."
    expected = 255 - GREY.astype(int)
    if tags.get("RescaleSlope") == 64:  # most values lie beyond the table's end
        expected = np.rint(np.clip(65535 - TWELVE.astype(int) * 64, 0, 65535) / 257)
    assert near(read_radiograph(dicom(pixels, bits=bits, **tags)).pixels, expected, 1)


def test_dicom_look_up_tables_may_be_packed_and_must_be_whole():
    item = table(FALLING, bits=8, vr="OW")
    item.LUTData = bytes(FALLING)
    assert near(read_radiograph(dicom(TWELVE, bits=12, VOILUTSequence=[item])).pixels, 255 - GREY.astype(int), 1)
    item.LUTData = bytes(FALLING[:100])
    refused(dicom(TWELVE, bits=12, VOILUTSequence=[item]), "unreadable", "look-up table")


def test_dicom_of_few_bits_is_not_dark():
    r = read_radiograph(dicom(GREY >> 2, bits=6))
    assert (r.pixels.min(), r.pixels.max()) == (0, 255) and any("stretched" in n for n in r.notes)


@pytest.mark.parametrize(
    "photometric, shape, said",
    [
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", ["A", "B"], False),
    ],
)
def test_dicom_that_contradicts_itself_about_white(photometric, shape, said):
    "DCMTK and dcm4che follow the shape, most others the photometric interpretation."
    r = read_radiograph(dicom(GREY, photometric=photometric, **({"PresentationLUTShape": shape} if shape else {})))
    assert any("contradicts itself" in n for n in r.notes) == said
    assert (r.pixels == (255 - GREY if photometric == "MONOCHROME1" else GREY)).all()


def test_dicom_functional_groups_of_one_frame():
    "An enhanced file has its rescale and window there."
    shared, frame, rescale, window = Dataset(), Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = -1, 4095
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 2048, 4096, "LINEAR_EXACT"
    shared.PixelValueTransformationSequence, frame.FrameVOILUTSequence = [rescale], [window]
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame]}
    r = read_radiograph(dicom(TWELVE, bits=12, NumberOfFrames=1, **groups))
    assert near(r.pixels, 255 - GREY.astype(int), 1) and not r.notes


def with_numbers(center, width, slope="1"):
    "A DICOM file with these texts for numbers, which pydicom doesn't write."
    data = dicom(TWELVE, bits=12, WindowCenter="111", WindowWidth="222", RescaleSlope="333", RescaleIntercept="0")
    for wanted, there in ((center, b"DS\x04\x00111 "), (width, b"DS\x04\x00222 "), (slope, b"DS\x04\x00333 ")):
        text = wanted.encode() + b" " * (len(wanted) % 2)
        assert data.count(there) == 1
        data = data.replace(there, b"DS" + len(text).to_bytes(2, "little") + text)
    return data


@pytest.mark.parametrize(
    "center, width, slope", [("2048,0", "4096", "1"), ("2047,5", "4095,5", "1,0"), (" 2048,", "4096,00", "1")]
)
def test_dicom_numbers_with_a_decimal_comma(center, width, slope):
    "Before, the first digit alone was taken for the number, and the picture was nearly white."
    r = read_radiograph(with_numbers(center, width, slope))
    point = read_radiograph(with_numbers(*(n.replace(",", ".") for n in (center, width, slope))))
    assert (r.pixels == point.pixels).all() and near(r.pixels, GREY, 2) and not r.notes


@pytest.mark.parametrize("center", ["20 48", "1,024", "2.048,0", "CENTER", "2048;0"])
def test_dicom_numbers_that_are_none_or_ambiguous(center):
    refused(with_numbers(center, "4096"), "unsupported", "window or rescale in the DICOM file is no number")


@pytest.mark.parametrize("number", ["inf", "-inf", "NaN", "1e999"])
def test_dicom_numbers_that_are_not_finite(number):
    "Of a window, the decoder's answer was refused, as if it had failed; of a rescale, only where a pixel became so."
    for numbers in ((number, "4096"), ("2048", number), ("2048", "4096", number)):
        text = r"window or rescale in the DICOM file is infinite, or not a number \(NaN\)"
        with pytest.raises(ImageError, match=text) as e:
            decode(with_numbers(*numbers), deep=64)
        assert e.value.code == "unsupported"


def test_dicom_patients_are_told_apart_and_not_named():
    "By a hash, which `prepare` compares; an ID that can't be read is no reason to refuse the picture."
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    one, two, again, none = (read_radiograph(dicom(pixels, PatientID=i)).patient for i in ("Secret77", "78", "78 ", ""))
    assert len({one, two, none}) == 3 and two == again and none == "" and len(one) == 16
    assert "Secret" not in repr(read_radiograph(dicom(pixels)))
    data = dicom(pixels, PatientID="Secret77").replace(b"Secret77", b"\xff\xfeecre\x1b(")
    assert (read_radiograph(data).pixels == pixels).all()
    assert decode(data).patient == read_radiograph(data).patient != ""


def test_dicom_bits_that_hold_nothing_are_no_reason_to_refuse():
    "Zeros instead of the sign, and two pixels of 8 bits that big-endian order swaps."
    signed = (TWELVE.astype(int) - 2048).astype(np.int16)
    zeros = (signed.view(np.uint16) & 0x0FFF).view(np.int16)
    assert (read_radiograph(dicom(zeros, bits=12)).pixels == read_radiograph(dicom(signed, bits=12)).pixels).all()
    swapped = dcmread(BytesIO(dicom(GREY, ExplicitVRBigEndian, pixel_data=GREY.reshape(-1, 2)[:, ::-1].tobytes())))
    swapped["PixelData"].VR = "OW"
    assert (read_radiograph(saved(swapped)).pixels == GREY).all()


@pytest.mark.parametrize("vr", [b"FD", b"US", b"ZZ"])
def test_dicom_whose_last_tag_is_damaged(vr):
    "A tag that is looked at after the pixels raises nothing else than an `ImageError`."
    data = dicom(GREY, BurnedInAnnotation="YES")
    at = data.index(b"\x28\0\x01\x03CS")
    refused(
        data[: at + 4] + vr + b"\3\0abc" + data[at + 12 :], "unreadable", "file is damaged and can't be decoded. Copy"
    )


def test_dicom_damaged_jpeg_lacks_no_codec_that_is_there(monkeypatch):
    fails, plugins = Mock(side_effect=RuntimeError("gave up")), ("pillow", "pylibjpeg")
    decoder = SimpleNamespace(is_available=True, available_plugins=plugins, as_array=fails)
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda uid: decoder)
    data = dicom(TWELVE, JPEGExtended12Bit, bits=12, pixel_data=encapsulate([encode(GREY, "JPEG")]))
    refused(data, "unreadable", "damaged")
    decoder.available_plugins = ("pillow",)
    refused(data, "codec", "pip install pylibjpeg")


@pytest.mark.parametrize("padding", [0, 65535])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_padding_is_black_and_outside_the_stretch(photometric, padding):
    padded = TWELVE + 5000
    padded[:, :5] = padding
    r = read_radiograph(dicom(padded, photometric=photometric, PixelPaddingValue=padding))
    assert (r.pixels[:, :5] == 0).all() and (r.pixels[:, 5:].min(), r.pixels[:, 5:].max()) == (0, 255)


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("vr, value, kind", [("SS", -2000, np.uint16), ("US", 63536, np.int16)])
def test_dicom_padding_may_be_written_with_the_other_sign(vr, value, kind, limit):
    padded = (TWELVE + 5000).astype(np.uint16)
    padded[:, :3], padded[:, 3:5] = 63536, 63536 + (limit or 0)
    tags = {"PixelPaddingValue": DataElement(0x00280120, vr, value)}
    if limit:
        tags["PixelPaddingRangeLimit"] = DataElement(0x00280121, vr, value + limit)
    r = read_radiograph(dicom(padded.view(kind), **tags))
    assert (r.pixels[:, :5] == 0).all() and (r.pixels[:, 5:].min(), r.pixels[:, 5:].max()) == (0, 255)


SHUTTERS = {
    "RECTANGULAR": {
        "ShutterLeftVerticalEdge": 11,
        "ShutterRightVerticalEdge": 50,
        "ShutterUpperHorizontalEdge": 6,
        "ShutterLowerHorizontalEdge": 40,
    },
    "CIRCULAR": {"CenterOfCircularShutter": [25, 33], "RadiusOfCircularShutter": 20},
    "POLYGONAL": {"VerticesOfThePolygonalShutter": [6, 11, 6, 50, 40, 50, 40, 11]},
}
ROW, COLUMN = np.mgrid[1 : H + 1, 1 : W + 1]
BOX = (COLUMN >= 11) & (COLUMN <= 50) & (ROW >= 6) & (ROW <= 40)
SHOWN = {"RECTANGULAR": BOX, "CIRCULAR": (ROW - 25) ** 2 + (COLUMN - 33) ** 2 <= 20**2, "POLYGONAL": BOX}


@pytest.mark.parametrize("shape", SHUTTERS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("is_enhanced", [False, True])
def test_what_a_dicom_display_shutter_hides_is_black_and_outside_the_stretch(shape, photometric, is_enhanced):
    tags = {"ShutterShape": shape, **SHUTTERS[shape]}
    if is_enhanced:
        shared, shutter = Dataset(), Dataset()
        for k, v in tags.items():
            setattr(shutter, k, v)
        shared.FrameDisplayShutterSequence = [shutter]
        tags = {"SharedFunctionalGroupsSequence": [shared]}
    shown = SHOWN[shape]
    film = np.where(shown, TWELVE, 65535)
    r = read_radiograph(dicom(film, photometric=photometric, **tags))
    inside = r.pixels[shown]
    assert (inside.min(), inside.max()) == (0, 255) and (r.pixels[~shown] > 0).mean() < 0.02  # a circle has steps
    assert r.notes == (r.notes[0], "the area that the file's display shutter hides became black")


def test_dicom_display_shutters_together_and_those_that_cannot_be_applied():
    both = {k: v for s in ("RECTANGULAR", "CIRCULAR") for k, v in SHUTTERS[s].items()}
    r = read_radiograph(dicom(GREY, ShutterShape=["RECTANGULAR", "CIRCULAR"], **both))
    assert (r.pixels[~(SHOWN["RECTANGULAR"] & SHOWN["CIRCULAR"])] > 0).mean() < 0.02
    for tags, said in (
        ({"ShutterShape": "RECTANGULAR"}, "can't be applied"),
        ({"ShutterShape": "RECTANGULAR", **SHUTTERS["RECTANGULAR"], "ShutterLeftVerticalEdge": 60}, "can't be applied"),
        ({"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 2, 3]}, "can't be applied"),
        ({"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": 5, "RadiusOfCircularShutter": 2}, "can't be applied"),
        ({"ShutterShape": "CIRCULAR", **SHUTTERS["CIRCULAR"], "CenterOfCircularShutter": [999, 999]}, "everything"),
        ({"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [5, 5, 9, 9]}, "nearly everything"),
    ):
        r = read_radiograph(dicom(GREY, **tags))
        assert (r.pixels == GREY).all() and len(r.notes) == 1 and said in r.notes[0], (tags, r.notes)
    assert read_radiograph(dicom(GREY, ShutterShape="BITMAP")).notes == ()


@pytest.mark.parametrize(
    "tag, value, said",
    [
        ("ViewPosition", "LL", "not a frontal view"),
        ("ViewPosition", "PA", None),
        ("ViewPosition", "LLD", None),  # on the side, and from the front
        ("BodyPartExamined", "HAND", "another part of the body"),
        ("BodyPartExamined", "CHEST", None),
        ("BodyPartExamined", "THORAX", None),
        ("BodyPartExamined", "", None),
        ("Modality", "CT", "not a plain radiograph"),
        ("Modality", "DX", None),
        ("Modality", "OT", None),
        ("PresentationIntentType", "FOR PROCESSING", "raw data"),
        ("PresentationIntentType", "FOR PRESENTATION", None),
    ],
)
def test_dicom_that_says_it_is_no_frontal_film_of_a_chest(tag, value, said):
    notes = read_radiograph(dicom(GREY, **{tag: value})).notes
    assert notes == () if said is None else len(notes) == 1 and said in notes[0]


@pytest.mark.parametrize(
    "code, scheme, view, said",
    [
        ("399173006", "SCT", None, True),  # left lateral
        ("R-10232", "SRT", "", True),  # right lateral
        ("399067008", "SCT", "LATERAL", True),
        ("399348003", "SCT", None, False),  # from the front
        ("R-10214", "SRT", "PA", False),
    ],
)
def test_dicom_that_says_by_a_code_that_it_is_no_frontal_film(code, scheme, view, said):
    "Digital radiographs have to have this code; the word is optional."
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, "view"
    tags = {"ViewCodeSequence": [item]} | ({} if view is None else {"ViewPosition": view})
    notes = read_radiograph(dicom(GREY, **tags)).notes
    assert [("not a frontal view" in n) for n in notes] == [True] * said


@pytest.mark.parametrize(
    "across, view, said",
    [("A", "", True), ("P", None, True), ("PL", None, True), ("L", None, False), ("R", "", False), ("A", "PA", False)],
)
def test_dicom_whose_rows_run_from_front_to_back_is_no_frontal_film(across, view, said):
    tags = {"PatientOrientation": [across, "F"]} | ({} if view is None else {"ViewPosition": view})
    assert any("not a frontal view" in n for n in read_radiograph(dicom(GREY, **tags)).notes) == said
    assert read_radiograph(dicom(GREY, PatientOrientation="")).notes == ()


@pytest.mark.parametrize(
    "ways, said", [(["R", "F"], True), (["RH", "FL"], True), (["L", "F"], False), (["R", "H"], False), ("R", False)]
)
def test_dicom_that_says_that_it_is_mirrored(ways, said):
    "The heart is on the other side; before, only the marker in the picture told, where it has one."
    notes = read_radiograph(dicom(GREY, PatientOrientation=ways)).notes
    assert notes == ("the file says that it is mirrored: the patient's right is on the right",) * said


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_compressed_dicom_that_is_cut_off_is_said_to_be():
    data = dicom(GREY, JPEGBaseline8Bit, pixel_data=encapsulate([encode(GREY, "JPEG")]))
    refused(data[:-60], "truncated", "cut off")
    refused(data[:-60] + bytes(60), "truncated", "cut off")


def test_a_copy_whose_end_is_not_written_yet_is_said():
    "Programs that copy may give a file its size first."
    rng = np.random.default_rng(0)
    grey = rng.integers(1, 255, (160, 150), dtype=np.uint8)
    deep = grey.astype(np.uint16) * 16
    deep[60:110] = 200  # whose upper bytes are zero
    files = [dicom(grey), dicom(deep, bits=12, WindowCenter=2048, WindowWidth=4096)]
    files += [encode(grey, "BMP"), encode(grey, "TIFF"), encode(grey, "WEBP", lossless=True)]
    for data in files:
        for cut in (12_288, 16_384):
            half = data[:cut] + bytes(len(data) - cut)
            assert len(data) - cut >= 4096 and any("incomplete copy" in n for n in read_radiograph(half).notes)
        assert not any("incomplete copy" in n for n in read_radiograph(data).notes)
    for rows in range(100, 140, 5):  # black below, as beside a collimator
        film = grey.copy()
        film[rows:] = 0
        assert read_radiograph(dicom(film)).notes == ()


def test_grey_with_premultiplied_alpha_is_read():
    "As macOS writes TIFF."
    data = encode(Image.fromarray(GREY).convert("LA"), "TIFF")
    kind = [struct.pack("<HHII", 338, 3, 1, n) for n in (2, 1)]  # ExtraSamples: straight, premultiplied
    assert data.count(kind[0]) == 1
    r = read_radiograph(data.replace(*kind), with_colour=True)
    assert (r.pixels == GREY).all() and not r.notes and r.colour == 0


def test_an_opaque_picture_has_no_transparency_to_speak_of():
    opaque = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    assert read_radiograph(encode(Image.fromarray(opaque), "PNG")).notes == ()
    opaque[0, 0, 3] = 254
    assert read_radiograph(encode(Image.fromarray(opaque), "PNG")).notes == ("transparency became black",)


def test_dicom_colour():
    assert (read_radiograph(dicom(np.dstack([GREY] * 3), photometric="RGB")).pixels == GREY).all()
    jpeg = encode(Image.fromarray(np.dstack([GREY] * 3)), "JPEG", quality=98, subsampling=0)
    data = dicom(np.dstack([GREY] * 3), JPEGBaseline8Bit, "YBR_FULL_422", pixel_data=encapsulate([jpeg]))
    assert near(read_radiograph(data).pixels, GREY, 8)


@pytest.mark.parametrize(
    "header, marker",
    [
        ("YBR_FULL_422", b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"),  # YCbCr, as of Photoshop
        ("RGB", b""),  # two channels of half the size: no RGB
    ],
)
def test_dicom_colour_is_as_its_jpeg_says(header, marker):
    "pydicom takes it for what the header says: a grey film was refused as coloured."
    jpeg = encode(Image.fromarray(np.dstack([GREY] * 3)), "JPEG", quality=98, subsampling=2)
    assert jpeg[2:4] == b"\xff\xe0"
    jpeg = jpeg[:2] + marker + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]  # in the place of JFIF
    data = dicom(np.dstack([GREY] * 3), JPEGBaseline8Bit, header, pixel_data=encapsulate([jpeg]))
    r = read_radiograph(data, with_colour=True)
    assert near(r.pixels, GREY, 8) and r.colour < 1


def test_dicom_of_jpeg_ls_may_have_a_black_border(monkeypatch):
    "It begins as a JPEG does, and Pillow can't read it: with a last row of one grey level, it was called damaged."
    film = GREY.copy()
    film[-4:] = 0
    decoder = SimpleNamespace(is_available=True, as_array=lambda ds, index: (film, {}))
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda uid: decoder)
    frame = b"\xff\xd8\xff\xf7\0\x0b\x08" + struct.pack(">HH", H, W) + b"\1\1\x11\0"
    frame += b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(100) + b"\xff\xd9"
    data = dicom(film, JPEGLSLossless, pixel_data=encapsulate([frame]))
    assert (read_radiograph(data).pixels == film).all()


def test_dicom_compressed():
    data = dicom(GREY, JPEGBaseline8Bit, pixel_data=encapsulate([encode(GREY, "JPEG", quality=98)]))
    assert near(read_radiograph(data).pixels, GREY, 6)
    data = dicom(GREY, JPEG2000Lossless, pixel_data=encapsulate([encode(GREY, "JPEG2000", irreversible=False)]))
    assert (read_radiograph(data).pixels == GREY).all()
    assert (read_radiograph(fuzz.rle(TWELVE)).pixels == read_radiograph(TWELVE).pixels).all()


def test_dicom_frames_and_size_are_checked_before_decoding(monkeypatch):
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", lambda *a, **k: pytest.fail("decoded"))
    refused(dicom(GREY, NumberOfFrames=30), "multiframe", "30 frames")
    refused(dicom(GREY, Rows=65535, Columns=65535), "too_large")
    refused(dicom(GREY, Rows=0), "empty")
    refused(dicom(GREY, pixel_data=b""), "empty", "holds no picture")
    refused(dicom(GREY.astype(np.uint32)), "unsupported", "32 bits")
    refused(dicom(GREY, photometric="PALETTE COLOR"), "unsupported", "PALETTE COLOR")
    refused(dicom(GREY)[:-100], "truncated", "cut off")
    refused(dicom(TWELVE)[: -W * H], "truncated", "cut off")


def test_dicom_deflated_is_refused_before_it_is_inflated():
    head = dicom(GREY, DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + dcmread(BytesIO(head), stop_before_pixels=True).file_meta.FileMetaInformationGroupLength
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = head[:start] + squeeze.compress(bytes(50_000_000)) + squeeze.flush()
    assert len(bomb) < 100_000
    read_radiograph(dicom(GREY))  # import first
    tracemalloc.start()
    refused(bomb, "unsupported", "deflated DICOM is refused")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_dicom_large_picture_behind_a_small_header(monkeypatch):
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", lambda *a, **k: pytest.fail("decoded"))
    refused(
        dicom(GREY, JPEGBaseline8Bit, pixel_data=encapsulate([encode(np.zeros((2000, 2000), np.uint8), "JPEG")])),
        "unreadable",
        "the picture has 2000 x 2000",
    )
    refused(dicom(GREY, RLELossless, pixel_data=encapsulate([bytes(500_000)])), "too_large", "longer than the picture")


def test_dicom_missing_codec_names_the_plugin():
    if get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a JPEG-LS decoder is installed")
    refused(
        dicom(GREY, JPEGLSLossless, pixel_data=encapsulate([b"\xff\xd8\xff\xf7"])),
        "codec",
        "pip install pylibjpeg pylibjpeg-libjpeg",
    )


def test_dicom_twelve_bit_jpeg_names_the_plugin():
    if len(get_decoder(JPEGExtended12Bit).available_plugins) > 1:
        pytest.skip("another JPEG decoder is installed")
    refused(
        dicom(TWELVE, JPEGExtended12Bit, bits=12, pixel_data=encapsulate([encode(GREY, "JPEG")])),
        "codec",
        "pip install pylibjpeg",
    )


def test_dicom_without_transfer_syntax():
    data = dicom(GREY)
    assert data.count(b"\x02\x00\x10\x00UI") == 1
    refused(data.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"), "unsupported", "transfer syntax")
    refused(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"), "unsupported", "can't be decoded")


def test_dicom_rescale_must_be_finite():
    refused(
        dicom(GREY, RescaleSlope=1, WindowCenter=5, WindowWidth=10).replace(b"DS\x04\x001.0 ", b"DS\x04\x00nan "),
        "unsupported",
        "finite",
    )


@pytest.mark.filterwarnings("ignore:The value length")
def test_dicom_errors_and_results_hold_nothing_of_the_patient(capfd):
    good = dicom(TWELVE, bits=12, BurnedInAnnotation="YES", NumberOfFrames=1)
    r = read_radiograph(good)
    assert "burned into" in r.notes[-1]
    texts = [
        repr(r),
        str(refused(good[:-10], "truncated", name="a.dcm")),
        str(refused(good.replace(b"IS\x02\x001 ", b"IS\x0e\x00Secret^Patient"), "unreadable")),
    ]
    assert "Secret" not in "".join(texts) + "".join(capfd.readouterr())


# --- to_square --------------------------------------------------------------------------------------------------------


def test_to_square():
    s = to_square(GREY, 32)
    assert s.shape == (32, 32) and s.dtype == np.uint8 and s.flags.writeable
    assert (to_square(GREY[:, :H].copy(), H) == GREY[:, :H]).all()  # nothing to do
    assert to_square(np.array([[7]], np.uint8), 3).tolist() == [[7] * 3] * 3
    assert np.ptp(to_square(np.tile(np.array([0, 255], np.uint8), (256, 128)), 32)[:, 2:-2]) < 5  # antialiased
    for bad in (GREY / 255, np.dstack([GREY] * 3)):
        with pytest.raises(ImageError, match="uint8"):
            to_square(bad, 32)


# --- damage that a library would notice -------------------------------------------------------------------------------


def flips(data, n=60):
    "Copies of a file with one bit flipped, all over it."
    for i in np.random.default_rng(0).choice(len(data) * 8, n, replace=False):
        bad = bytearray(data)
        bad[i // 8] ^= 1 << i % 8
        yield bytes(bad)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_a_png_with_one_wrong_bit_is_refused(mode):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    picture = Image.fromarray(noise.astype(np.uint16)) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    data = encode(picture)
    for bad in flips(data[:-12]):  # the last chunk is empty, and nobody checks its checksum
        bad += data[-12:]
        for kw in ({}, {"min_side": 16, "with_colour": True}):
            with pytest.raises(ImageError):
                read_radiograph(bad, **kw)


def test_a_png_with_a_wrong_checksum_after_its_pixels_is_refused():
    data = bytearray(encode(GREY))
    data[data.rindex(b"IEND") - 8] ^= 1  # the last byte of IDAT's checksum region: the pixels decode
    # of which Pillow says SyntaxError, which is no word for a user
    refused(bytes(data), "unreadable", "the picture is damaged and can't be decoded. Copy")


def test_a_pillow_image_of_a_damaged_file_is_refused():
    data = encode(np.random.default_rng(0).integers(0, 256, (200, 300), dtype=np.uint8))
    refused(Image.open(BytesIO(data[: len(data) // 2])), "unreadable", "the Pillow image can't be decoded")


def test_colour_raises_nothing_but_image_errors():
    rgb = Image.fromarray(np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]))
    for format in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        data = encode(rgb, format)
        assert colour(data) > 12
        for bad in [data[: len(data) // 2], *flips(data, 40)]:
            try:
                assert colour(bad) >= 0
            except ImageError:
                pass
    for source in ("nowhere.png", None, [1]):
        with pytest.raises(ImageError):
            colour(source)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("app14", [False, True])
def test_colour_of_a_jpeg_costs_no_pixel(mode, app14):
    small = Image.fromarray(np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]))
    big = small.resize((640, 480), Image.Resampling.BICUBIC).convert(mode)
    data = encode(big, "JPEG", quality=95, **({"keep_rgb": True} if app14 and mode == "RGB" else {}))
    plain, both = read_radiograph(data, min_side=100), read_radiograph(data, min_side=100, with_colour=True)
    assert near(plain.pixels, both.pixels, 1 if app14 else 0) and plain.colour == 0
    assert both.colour == pytest.approx(read_radiograph(big, with_colour=True).colour, rel=0.05)


# --- files that are small and cost much -------------------------------------------------------------------------------


def quickly(data, code, text):
    "The error of a file that must be refused without decoding it: in half a second of CPU time and 200 MB."
    read_radiograph(dicom(GREY))  # import first
    tracemalloc.start()
    start = time.process_time()
    e = refused(data, code, text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 0.5 and peak < 200_000_000
    return e


@pytest.mark.parametrize("size", [(64_000_000, 1), (1, 65_536)])
def test_a_picture_of_one_row_is_refused(size):
    quickly(png_claiming(*size), "too_large", "a side is longer than the 65,535 allowed")


def many_scans(n, side=400):
    "A progressive JPEG with n copies of its last scan."
    data = encode(np.zeros((side, side), np.uint8), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * n + data[-2:]


def test_jpeg_scans_in_a_file_and_in_dicom():
    quickly(many_scans(1000), "too_large", "scans, too many for its size")
    data = dicom(np.zeros((400, 400), np.uint8), JPEGBaseline8Bit, pixel_data=encapsulate([many_scans(1000)]))
    quickly(data, "too_large", "scans, too many for its size")


def test_scans_are_limited_by_the_pixels_of_all_together():
    def jpeg(scans):
        return b"\xff\xd8" + b"\xff\xda\0\2" * scans + b"\xff\xd9"

    module._check_scans(module._outlined(jpeg(50)), 4300**2)
    with pytest.raises(ImageError, match="70 scans"):
        module._check_scans(module._outlined(jpeg(70)), 4300**2)
    module._check_scans(module._outlined(jpeg(1)), module.MAX_PIXELS)


def webp(width, height, kind=b"VP8X"):
    "The first bytes of a WebP file of this size."
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize("kind", [b"VP8 ", b"VP8L", b"VP8X"])
def test_webp_has_a_limit_of_its_own(kind):
    assert module._webp_size(webp(321, 4567, kind)) == (321, 4567)
    quickly(webp(7990, 7990, kind), "too_large", "25,000,000 allowed")
    with pytest.raises(ImageError, match="damaged|cut off"):
        read_radiograph(webp(5000, 5000, kind))


def test_webp_sizes_are_those_of_real_files():
    rgba = Image.fromarray(GREY).convert("RGBA")
    rgba.putalpha(7)
    for picture, kw in ((rgba, {"lossless": True}), (rgba, {}), (rgba.convert("RGB"), {})):
        assert module._webp_size(encode(picture, "WEBP", **kw)) == (W, H)


def jpeg2000(width, height, channels=1, head=b""):
    "The first bytes of a JPEG 2000 picture of this size."
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, channels) + b"\7\1\1" * channels
    return head + b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size)) + size + bytes(200)


def in_dicom(frame, rows=8, columns=8, samples=1):
    "A DICOM file that holds this JPEG 2000 picture."
    pixels = np.zeros((8, 8) if samples == 1 else (8, 8, 3), np.uint8)
    kind = "MONOCHROME2" if samples == 1 else "RGB"
    return dicom(pixels, JPEG2000Lossless, kind, pixel_data=encapsulate([frame]), Rows=rows, Columns=columns)


def test_jpeg_2000_has_a_limit_of_samples():
    quickly(in_dicom(jpeg2000(7000, 7000, 3), 7000, 7000, 3), "too_large", "samples are more than")
    quickly(in_dicom(jpeg2000(8, 8, 200)), "unreadable", "does not match the header")
    large = encode(np.zeros((2000, 2000), np.uint8), "JPEG2000")
    quickly(in_dicom(large), "unreadable", "the picture has 2000 x 2000")


@pytest.mark.parametrize("box", [b"\0\0\0\0free", b"\0\0\0\7free", b"\0\0\0\1free" + bytes(8), b"\xff\0\0\0free", b""])
def test_boxes_of_jpeg_2000_must_have_a_length(box):
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    quickly(in_dicom(signature + box), "unreadable", "a box has no valid length")


def test_wrapped_jpeg_2000_is_read():
    for kw in ({}, {"no_jp2": True}):
        data = dicom(GREY, JPEG2000Lossless, pixel_data=encapsulate([encode(GREY, "JPEG2000", **kw)]))
        assert (read_radiograph(data).pixels == GREY).all()


@pytest.mark.parametrize("compression", [1, 2])
def test_run_length_compressed_bmp(compression):
    data = bytearray(encode(Image.new("P", (8000, 8000)).crop((0, 0, 8, 8)), "BMP"))
    data[18:26], data[30:34] = struct.pack("<ii", 8000, 8000), struct.pack("<I", compression)
    quickly(bytes(data) + b"\0\0" * 8000, "unsupported", "the BMP is run-length compressed")


@pytest.mark.parametrize("order", ["<", ">"])
def test_dicom_of_empty_items(order):
    head = dicom(GREY, ExplicitVRBigEndian if order == ">" else ExplicitVRLittleEndian)
    items = struct.pack(order + "HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    sequence = struct.pack(order + "HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    end = struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
    at = head.rindex(struct.pack(order + "HH", 0x7FE0, 0x0010))
    quickly(head[:at] + sequence + items + end + head[at:], "too_large", "more than 10,000 items")
    few = head[:at] + sequence + items[:800] + end + head[at:]
    assert (read_radiograph(few).pixels == GREY).all()


@pytest.mark.filterwarnings("ignore:The pixel data is 124 bytes long")
def test_more_frames_than_the_header_says():
    grey, rgb = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
    quickly(dicom(grey, pixel_data=bytes(2 * 64)), "multiframe", "more frames than its header says")
    quickly(dicom(rgb, photometric="RGB", pixel_data=bytes(3 * 2 * 64)), "multiframe", "more frames than its header")
    narrow = np.zeros((8, 3), np.uint8)  # two frames of it look like a picture of three channels
    quickly(dicom(narrow, pixel_data=bytes(48)), "multiframe", "more frames than its header says")
    jpeg = encode(grey, "JPEG")
    quickly(dicom(grey, JPEGBaseline8Bit, pixel_data=encapsulate([jpeg, jpeg])), "multiframe", "more frames than")
    assert read_radiograph(dicom(grey, pixel_data=bytes(64 + 60))).pixels.shape == (8, 8)  # padding


def test_large_pictures_are_scaled_in_bands():
    values = np.random.default_rng(0).integers(0, 65536, (3000, 1001)).astype(np.uint16)
    expected = np.rint((values - values.min()) * (255 / np.ptp(values).astype(float)))
    tracemalloc.start()
    scaled = module._stretch(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert near(scaled, expected, 1) and peak < 4.5 * values.size  # the result and a band; float32 of all were 4 more


HOSTILE = Path(__file__).parents[1] / "../shared/data/hostile"


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="no ../shared/data/hostile here")
@pytest.mark.parametrize("name", sorted(p.name for p in HOSTILE.glob("*")) if HOSTILE.is_dir() else [])
def test_files_of_an_attack(name):
    start = time.process_time()
    with pytest.raises(ImageError):
        read_radiograph(HOSTILE / name)
    assert time.process_time() - start < 1


# --- what decoders accept, and show wrongly ---------------------------------------------------------------------------


def tiff(pixels, **tags):
    "A TIFF whose tags say something else than Pillow would write; 262 is the photometric, 339 the sample format."
    b = BytesIO(encode(pixels, "TIFF"))
    data, start = bytearray(b.getvalue()), struct.unpack("<I", b.getvalue()[4:8])[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * i
        if (value := tags.get(f"t{struct.unpack_from('<H', data, at)[0]}")) is not None:
            struct.pack_into("<I", data, at + 8, value)
    return bytes(data)


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_white_is_zero_in_a_deep_tiff(kind):
    deep = GREY.astype(kind)
    assert (read_radiograph(tiff(deep, t262=0)).pixels == 255 - read_radiograph(tiff(deep)).pixels).all()


def test_signs_in_a_tiff():
    with Image.open(BytesIO(tiff(GREY.astype(np.int32)))) as image:
        assert image.tag_v2[339] == (2,)
    large = GREY.astype(np.uint32) * (2**32 // 256)
    assert near(
        read_radiograph(tiff(large.view(np.int32), t339=1)).pixels, read_radiograph(GREY.astype(np.uint16)).pixels, 1
    )
    with Image.open(BytesIO(encode(GREY, "TIFF", tiffinfo={339: 2}))) as image:
        assert image.mode == "L"
    refused(encode(GREY, "TIFF", tiffinfo={339: 2}), "unsupported", "signed")


def striped_tiff(offsets):
    "GREY as a TIFF of 4 strips, of which these are named."
    rows, n = H // 4, len(offsets)
    entries = [(256, 4, 1, W), (257, 4, 1, H), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, n, 8 + H * W if n > 1 else offsets[0]), (277, 3, 1, 1), (278, 4, 1, rows)]
    entries += [(279, 4, n, 8 + H * W + 4 * n if n > 1 else rows * W)]
    arrays = struct.pack(f"<{2 * n}I", *offsets, *[rows * W] * n)
    body = GREY.tobytes() + arrays
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + ifd


def test_a_tiff_without_some_of_its_strips_is_refused():
    offsets = [8 + i * H // 4 * W for i in range(4)]
    assert (read_radiograph(striped_tiff(offsets)).pixels == GREY).all()
    for lost in (offsets[:3], offsets[:1], [*offsets[:3], 0]):
        refused(striped_tiff(lost), "truncated", "lacks part")


def test_a_png_with_fewer_rows_than_it_says_is_refused():
    rows = [b"\0" + row.tobytes() for row in GREY]
    assert (read_radiograph(png_of(b"".join(rows))).pixels == GREY).all()
    for n in (1, H // 2, H - 1):
        refused(png_of(b"".join(rows[:n])), "truncated", "cut off")
    black = [b"\0" + bytes(W)] * 8
    assert (read_radiograph(png_of(b"".join(rows[:-8] + black))).pixels[-8:] == 0).all()
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", W, H // 2, 8, 0, 0, 0, 0))
    refused(png_of(b"".join(rows), extra=second), "unreadable", "header, or two")


# the passes of an interlaced PNG: first column and row, steps
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize("size", [(W, H), (W - 1, H - 3), (5, 200), (200, 1)])
def test_an_interlaced_png_without_some_of_its_passes_is_refused(size):
    "It was read, with every other row black, or nearly all of them."
    width, height = size
    picture = np.random.default_rng(1).integers(1, 256, (height, width), dtype=np.uint8)
    rows = [b"\0" + row.tobytes() for x, y, i, j in ADAM7 for row in picture[y::j, x::i] if len(row)]
    whole = b"".join(rows)
    assert (read_radiograph(png_of(whole, size=size, interlaced=1)).pixels == picture).all()
    for n in (len(rows) - 1, len(rows) // 2, 1):
        refused(png_of(b"".join(rows[:n]), size=size, interlaced=1), "truncated", "cut off")
    bits = [b"\0" + np.packbits(r & 1).tobytes() for x, y, i, j in ADAM7 for r in picture[y::j, x::i] if len(r)]
    assert read_radiograph(png_of(b"".join(bits), size=size, depth=1, interlaced=1)).width == width


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (200, 304), dtype=np.uint8)


@pytest.mark.parametrize("kw", [{}, {"restart_marker_rows": 2}, {"subsampling": 2}])
@pytest.mark.parametrize("min_side", [None, 20])
@pytest.mark.parametrize("square", [None, 20])
def test_a_jpeg_that_ends_early_is_refused_though_it_has_an_end(kw, min_side, square):
    picture = Image.fromarray(noise()).convert("RGB" if "subsampling" in kw else "L")
    data, how = encode(picture, "JPEG", quality=90, **kw), {"min_side": min_side, "square": square}
    read_radiograph(data, **how)
    for keep in (0.3, 0.6, 0.85):
        refused(data[: int(len(data) * keep)].rstrip(b"\xff") + b"\xff\xd9", "truncated", **how)
    refused(data[: len(data) // 2] + b"trailing \xff\xd9", "truncated", **how)


@pytest.mark.parametrize("square", [None, 20])
def test_a_jpeg_with_a_dark_last_row_is_complete(square):
    dark = noise()
    dark[-40:] = 0
    assert read_radiograph(encode(dark, "JPEG"), square=square).notes == ()


@pytest.mark.parametrize("kw", [{}, {"restart_marker_rows": 2}, {"progressive": True}])
def test_segments_of_a_jpeg_are_read_once(kw, monkeypatch):
    "Where nothing is suspicious: this takes as long as all other checks together."
    calls, segments = [], module._segments
    monkeypatch.setattr(module, "_segments", lambda jpeg: calls.append(1) or segments(jpeg))
    read_radiograph(encode(noise(), "JPEG", **kw), square=20)
    assert len(calls) == 1 + bool(kw)  # restarts and scans are counted on their own


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_without_its_last_scans_is_said(mode):
    "Its edges show nothing: all pixels are there, and coarse."
    whole = encode(Image.fromarray(GREY).convert(mode), "JPEG", quality=90, progressive=True)
    assert read_radiograph(whole).notes == ()
    scans = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xda"]
    for start in scans[len(scans) // 2 :]:
        tables = whole.rfind(b"\xff\xc4", scans[0], start)  # those of the scan come before it
        (note,) = read_radiograph(whole[: tables if tables > 0 else start] + b"\xff\xd9").notes
        assert "lacks some of its scans" in note


def test_black_edges_are_no_reason_to_refuse_a_jpeg():
    for turn in range(4):
        picture = noise()
        picture[-40:] = 0
        picture = np.rot90(picture, turn).copy()
        for kw in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
            data = encode(picture, "JPEG", **kw)
            for min_side in (None, 20):
                assert read_radiograph(data, min_side).pixels.shape[0] > 0
            assert read_radiograph(data + b"trailing").pixels.shape == picture.shape
            assert read_radiograph(dicom(picture, JPEGBaseline8Bit, pixel_data=encapsulate([data]))).format == "DICOM"


ARITHMETIC = base64.b85decode(  # 32 x 32 pixels in black 256 x 256, by cjpeg -arithmetic
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01yid4h#wq4h;?x5fBp?C>j_R78o%jB^@X_Gd(;xGdMRuNL)@pL{~*OI8bd-S6^ahXlFi6ad~iLcwA*?"
    "WB<tj3kU%K0RRC35di<p00saM5C#9*00;pA002J#{{Vr-r3cb^;;h~WaA3g%Z4-Xvoq(q@L=g`67P9t6)`K&NepI2V-7K7DC<=wm&M|Fxai0GG"
    "_=?CYx3^0#4&IUYzpgQ$pUsl+GKK_&$6W@JhU?W|)>Ly$hHmorrr7;f_*p-W{(EW|&EGUM&oT{z4zQ9BymH@7|Je"
)


def test_black_edges_are_no_reason_to_refuse_an_arithmetic_coded_jpeg():
    "The coder leaves out zeros at its end: more data change the picture though nothing is missing."
    pixels = read_radiograph(ARITHMETIC).pixels
    assert (pixels == np.asarray(Image.open(BytesIO(ARITHMETIC)))).all() and pixels.max() > 100
    refused(ARITHMETIC[:-60], "truncated")


@pytest.mark.parametrize("lost", [1, 3, 8])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_lost_parts_between_restarts_is_refused(lost, mode):
    data = encode(Image.fromarray(noise()).convert(mode), "JPEG", restart_marker_rows=1)
    at = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    refused(data[: at[2]] + data[at[2 + lost] :], "truncated")


def test_dicom_bits_that_are_not_where_they_should_be():
    refused(dicom(TWELVE * 16, bits=12, HighBit=15), "unsupported", "High Bit")
    refused(dicom(TWELVE, bits=10), "unsupported", "Bits Stored")
    overlaid = dcmread(BytesIO(dicom(TWELVE | 1 << 14, bits=12)))
    overlaid.add_new(0x60000102, "US", 14)  # Overlay Bit Position
    r = read_radiograph(saved(overlaid))
    assert any("overlay" in n for n in r.notes)
    assert (r.pixels == read_radiograph(dicom(TWELVE, bits=12)).pixels).all()
    signed = (TWELVE.astype(int) - 2048).astype(np.int16)
    for data in (dicom(TWELVE, bits=12), dicom(signed, bits=12), dicom(TWELVE, ExplicitVRBigEndian, bits=12)):
        assert not any("left out" in n for n in read_radiograph(data).notes)
    deep = encode(TWELVE, "JPEG2000", no_jp2=True)
    refused(dicom(GREY, JPEG2000Lossless, pixel_data=encapsulate([deep])), "unreadable", "does not match the header")


@pytest.mark.parametrize("kind, channels", [("PNG", 2), ("PNG", 3), ("PNG", 4), ("TIFF", 3), ("TIFF", 4)])
def test_twelve_bits_in_sixteen_of_a_colour_picture(kind, channels):
    "Pillow reads the upper byte of each channel: 12-bit values would be nearly black."
    import tifffile

    def save(values):
        opaque = np.full_like(values, 65535)
        stack = np.dstack([values] * (channels - 1) + [values if channels == 3 else opaque])
        if kind == "PNG":
            return sixteen_bit_png(stack)
        file, extra = BytesIO(), [] if channels == 3 else ["unassalpha"]
        tifffile.imwrite(file, stack, photometric="rgb", planarconfig="contig", extrasamples=extra)
        return file.getvalue()

    refused(save(TWELVE), "unsupported", "16 bits per channel")
    assert near(read_radiograph(save(TWELVE * 16)).pixels, GREY, 1)


def sixteen_bit_png(stack):
    "A PNG of 16 bits per channel, which Pillow can't write."
    height, width, channels = stack.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in stack)
    return png_of(rows, (width, height), depth=16, colour={2: 4, 3: 2, 4: 6}[channels])


def test_a_tiff_with_reversed_bits_is_refused():
    file = bytearray(encode(GREY, "TIFF", tiffinfo={266: 2}))
    refused(bytes(file), "unsupported", "FillOrder")


def test_dicom_pixels_that_are_compressed_and_said_not_to_be():
    refused(dicom(GREY, pixel_data=encapsulate([GREY.tobytes()])), "unreadable", "compressed")


def test_dicom_jpeg_that_ends_early_or_holds_two_frames():
    data = encode(noise(), "JPEG")
    assert read_radiograph(dicom(noise(), JPEGBaseline8Bit, pixel_data=encapsulate([data]))).width == 304
    cut = data[: len(data) // 2] + b"\xff\xd9"
    refused(dicom(noise(), JPEGBaseline8Bit, pixel_data=encapsulate([cut])), "truncated")
    two = encapsulate([data, data], has_bot=False)
    refused(dicom(noise(), JPEGBaseline8Bit, pixel_data=two), "multiframe")


def test_dicom_jpeg_2000_that_is_cut_is_damaged_and_lacks_no_codec():
    deep = encode(noise().astype(np.uint16) * 16, "JPEG2000", no_jp2=True)
    cut = dicom(noise().astype(np.uint16) * 16, JPEG2000Lossless, pixel_data=encapsulate([deep[: len(deep) // 2]]))
    refused(cut, "unreadable", "damaged")


def test_dicom_colour_is_measured():
    coloured = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
    expected = read_radiograph(coloured, with_colour=True).colour
    assert expected > 30 and read_radiograph(dicom(coloured, photometric="RGB"), with_colour=True).colour == expected
    assert read_radiograph(dicom(coloured, photometric="RGB")).colour == 0


def test_arrays_of_other_kinds():
    assert (read_radiograph(TWELVE.astype(">u2")).pixels == read_radiograph(TWELVE).pixels).all()
    refused(np.ma.masked_array(GREY, GREY > 100), "unsupported", "mask")


def test_a_file_that_turns_into_a_pipe_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.png")
    monkeypatch.setattr("pathlib.Path.is_file", lambda self: True)  # as it was when it was looked at
    refused(tmp_path / "a.png", "not_image", "not a regular file")


def test_a_file_with_more_bytes_than_it_says(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)  # files of /proc say that they are empty
    refused("/proc/self/maps", "too_large", "more than the 100 bytes")


def test_a_file_that_waits_for_what_never_comes():
    if not os.access("/proc/kmsg", os.R_OK):
        pytest.skip("for root on Linux")
    with pytest.raises(ImageError):
        read_radiograph("/proc/kmsg")
    with pytest.raises(ImageError):  # all that was there has been read
        read_radiograph("/proc/kmsg")


def test_a_share_that_gives_a_part_later_has_not_given_the_file(tmp_path, monkeypatch):
    "An archive on tape, or a share at its limit: before, the first part, or nothing, was taken for the file."
    (tmp_path / "x.png").write_bytes(encode(noise(), "PNG"))
    pieces = [b"\x89PNG", None]

    class Later(BytesIO):
        def readinto(self, buffer):
            piece = pieces.pop(0)
            return piece and (buffer.__setitem__(slice(len(piece)), piece), len(piece))[1]

    with pytest.raises(BlockingIOError):
        module._in_pieces(Later(), 100, lambda: None)
    waits, real = [], os.set_blocking
    monkeypatch.setattr(os, "set_blocking", lambda *a: (waits.append(a[1]), real(*a)))
    read_radiograph(tmp_path / "x.png")
    assert waits == [True]


# --- ordinary files of phones, detectors and other programs -----------------------------------------------------------


@pytest.mark.parametrize("kw", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("film", [b"\xff\xda" * 200, b"\xff\xd9 \xff\xda", np.random.default_rng(0).bytes(3_000_000)])
def test_what_a_phone_appends_to_a_jpeg_is_no_part_of_it(kw, film):
    data = encode(GREY, "JPEG", **kw)
    assert (read_radiograph(data + film).pixels == read_radiograph(data).pixels).all()


def test_a_jpeg_that_is_cut_has_no_end_whatever_its_thumbnail_has():
    small, data = encode(GREY, "JPEG"), encode(noise(), "JPEG", quality=90)
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + data[2:]
    read_radiograph(with_thumbnail)
    for lost in (2, 3, 1000):
        refused(with_thumbnail[:-lost], "truncated", "cut off")


def test_a_thumbnail_hides_no_lost_restart():
    small, data = encode(GREY, "JPEG"), encode(noise(), "JPEG", restart_marker_rows=1)
    at = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    read_radiograph(data[:2] + thumbnail + data[2:])
    refused(data[:2] + thumbnail + data[2 : at[2]] + data[at[5] :], "truncated", "cut off")


def test_bytes_that_fill_up_take_no_time():
    data = encode(GREY, "JPEG")
    began = time.process_time()
    assert len(list(module._segments(data[:-2] + b"\xff" * 1_000_000 + b"\0" + data[-2:]))) > 5
    assert time.process_time() - began < 2
    padded = data[:-2] + b"\xff" * 1000 + data[-2:]
    assert (read_radiograph(padded).pixels == read_radiograph(data).pixels).all()


def rle(*segments):
    "Run-length encoded pixels, a frame of DICOM."
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_run_length_encoding_is_limited_by_what_it_becomes(monkeypatch):
    monkeypatch.setattr(module, "MAX_RLE_BYTES", 1000)
    wide = noise().astype(np.uint16) * 257

    def literal(plane):
        return b"".join(bytes([len(c) - 1]) + c for c in (plane[i : i + 128] for i in range(0, len(plane), 128)))

    frame = rle(literal(noise().tobytes()), literal(noise().tobytes()))
    assert len(frame) > wide.size * 2
    data = dicom(wide, RLELossless, pixel_data=encapsulate([frame]))
    assert (read_radiograph(data).pixels == read_radiograph(dicom(wide)).pixels).all()
    bomb = rle(b"\x81\0" * 2000, b"\x81\0" * 2000)
    refused(dicom(wide, RLELossless, pixel_data=encapsulate([bomb])), "too_large", "longer than the picture")


def packed_tiff(pixels, order="<", planar=False):
    "A deflated TIFF of any byte order and type; with `planar`, a strip for each channel."
    pixels = np.atleast_3d(pixels)
    h, w, n = pixels.shape
    planes = [pixels[..., c] for c in range(n)] if planar else [pixels]
    strips = [zlib.compress(p.astype(p.dtype.newbyteorder(order)).tobytes()) for p in planes]
    at, offsets = 8, []
    for strip in strips:
        offsets.append(at)
        at += len(strip)
    bits, kind = pixels.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    values = {256: [w], 257: [h], 258: [bits] * n, 259: [8], 262: [2 if n > 2 else 1], 273: offsets, 277: [n], 278: [h]}
    values |= {279: [len(s) for s in strips], 284: [2 if planar else 1], 339: [kind] * n}
    if n == 2:
        values |= {338: [2]}
    arrays, entries = b"", []
    for tag, v in sorted(values.items()):
        packed = struct.pack(f"{order}{len(v)}I", *v)
        entries.append(
            struct.pack(order + "HHI", tag, 4, len(v))
            + (packed if len(v) == 1 else struct.pack(order + "I", at + len(arrays)))
        )
        arrays += packed if len(v) > 1 else b""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", at + len(arrays))
    return head + b"".join(strips) + arrays + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "i4", "f4"])
def test_a_packed_tiff_of_either_byte_order(order, kind):
    pixels = GREY.astype(kind) * (100 if kind[1] > "1" else 1) - (5000 if kind[0] == "i" else 0)
    expected = GREY if kind == "u1" else read_radiograph(GREY.astype(np.uint16)).pixels
    assert near(read_radiograph(packed_tiff(pixels.astype(kind), order)).pixels, expected, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deep", [1, 257])
def test_planes_of_a_packed_tiff(order, deep):
    grey = GREY.astype(np.uint8 if deep == 1 else np.uint16) * deep
    assert near(read_radiograph(packed_tiff(np.stack([grey] * 3, -1), order, planar=True)).pixels, GREY, 1)
    if deep == 1:
        refused(packed_tiff(np.stack([grey, 255 - grey], -1), order, planar=True), "unsupported", "planes")


def test_deep_planes_of_a_plain_tiff_are_refused():
    entries = [(256, 4, 1, W), (257, 4, 1, H), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 3, 14)]
    entries += [(277, 3, 1, 3), (278, 4, 1, H), (279, 4, 3, 26), (284, 3, 1, 2)]
    plane, start = (GREY.astype("<u2") * 257).tobytes(), 40
    body = struct.pack("<3H", 16, 16, 16) + struct.pack("<3I", *(start + i * len(plane) for i in range(3)))
    body += struct.pack("<3I", *[len(plane)] * 3) + bytes(2) + plane * 3
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    refused(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + ifd, "unsupported", "planes")
