"""Fuzz the decoder of untrusted files: python tests/fuzz.py --seconds 3600 --seed 0 --format png

Each case is made from (seed, format, number) alone: a small synthetic file of the corpus, changed in a few places. It
goes through `decode`, as an upload does. A case fails if anything but `ImageError` is raised, if it takes more than 2 s
of CPU time or 600 MB (a code `limit` says the same), if the pixels are not 2-D uint8, or if the file is accepted
although Pillow or pydicom refuse it. Failing files are reduced to the changes that matter and written to OUT;
OUT/summary.json has the counts, and is where the next run with the same seed goes on.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from xraypneu.data import decoder
from xraypneu.data.image import ImageError

CORPUS = Path(__file__).parent / "corpus"  # files that once failed, tried first
MAX_SECONDS, MAX_MB = 2.0, 600
H, W = 80, 96


def picture():
    "A small grey picture with edges and gradients."
    y, x = np.mgrid[:H, :W]
    grey = (120 + 80 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    grey[:8, :20] = 255
    return grey


GREY = picture()


def encode(image, format, **kw):
    "The picture as the bytes of a file."
    buffer = io.BytesIO()
    image.save(buffer, format, **kw)
    return buffer.getvalue()


def dicom(pixels, syntax=ExplicitVRLittleEndian, photometric="MONOCHROME2", bits=None, pixel_data=None, **tags):
    "The bytes of a DICOM file."
    ds, ds.file_meta = Dataset(), FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    allocated = 8 * pixels.dtype.itemsize
    stored = bits or allocated
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PixelRepresentation, ds.PhotometricInterpretation = int(pixels.dtype.kind == "i"), photometric
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, stored - 1
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds.PixelData = raw if pixel_data is None else pixel_data
    ds["PixelData"].VR = "OW" if allocated > 8 else "OB"
    for name, value in tags.items():
        # an element is of a VR that pydicom wouldn't choose
        ds.add(value) if isinstance(value, DataElement) else setattr(ds, name, value)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def rle(pixels, photometric="MONOCHROME2"):
    "The bytes of a run-length encoded DICOM file."
    ds = dcmread(io.BytesIO(dicom(pixels, photometric=photometric)))
    ds.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def look_up_table():
    "A VOI look-up table that inverts."
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 8], [255 - i for i in range(256)]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "US"
    return [lut]


def dicom_corpus():
    "DICOM files of every transfer syntax that can be decoded here."
    sixteen, rgb = GREY.astype(np.uint16) * 16, np.dstack([GREY, GREY[::-1], GREY])
    jpeg = [encode(Image.fromarray(GREY), "JPEG", quality=90)]
    jpeg_rgb = [encode(Image.fromarray(rgb), "JPEG", quality=90)]
    jp2 = [encode(Image.fromarray(GREY), "JPEG2000")]
    j2k = [encode(Image.fromarray(sixteen), "JPEG2000", no_jp2=True)]
    window = dict(WindowCenter=1500, WindowWidth=1200, RescaleSlope=2, RescaleIntercept=-5)
    return {
        "dicom-native": [
            dicom(GREY, ImplicitVRLittleEndian),
            dicom(sixteen, **window),
            dicom(sixteen, ExplicitVRBigEndian, "MONOCHROME1", PixelPaddingValue=0),
            dicom(sixteen.astype(np.int16), VOILUTSequence=look_up_table()),
            dicom(rgb, photometric="RGB"),
        ],
        "dicom-jpeg": [
            dicom(GREY, JPEGBaseline8Bit, pixel_data=encapsulate(jpeg)),
            dicom(GREY, JPEGExtended12Bit, pixel_data=encapsulate(jpeg)),
            dicom(rgb, JPEGBaseline8Bit, "YBR_FULL_422", pixel_data=encapsulate(jpeg_rgb)),
        ],
        "dicom-j2k": [
            dicom(GREY, JPEG2000Lossless, pixel_data=encapsulate(jp2)),
            dicom(sixteen, JPEG2000, pixel_data=encapsulate(j2k), **window),
        ],
        "dicom-rle": [rle(GREY), rle(sixteen), rle(rgb, "RGB")],
    }


def corpus():
    "Format to small synthetic files of it."
    grey, sixteen = Image.fromarray(GREY), Image.fromarray(GREY.astype(np.uint16) * 257)
    rgb = Image.fromarray(np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]))
    exif = Image.Exif()
    exif[0x0112] = 6
    small = Image.fromarray(GREY[:16, :16].copy())
    return {
        "png": [
            encode(i, "PNG") for i in (grey, rgb, sixteen, grey.convert("1"), rgb.convert("P"), rgb.convert("RGBA"))
        ]
        + [encode(grey, "PNG", exif=exif)]
        + [encode(i, "PNG", compress_level=0) for i in (grey, rgb, sixteen, rgb.convert("P"), rgb.convert("RGBA"))],
        "jpeg": [encode(i, "JPEG", quality=90) for i in (grey, rgb, rgb.convert("CMYK"))]
        + [encode(i, "JPEG", progressive=True, exif=exif) for i in (grey, rgb)],
        "tiff": [encode(i, "TIFF") for i in (grey, rgb, sixteen, Image.fromarray(GREY.astype(np.float32)))]
        + [encode(rgb, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
        + [encode(grey.convert("1"), "TIFF", compression="group4"), encode(grey, "TIFF", exif=exif)],
        "bmp": [encode(i, "BMP") for i in (grey, rgb, grey.convert("1"), rgb.convert("RGBA"))],
        "webp": [
            encode(rgb, "WEBP"),
            encode(rgb, "WEBP", lossless=True),
            encode(rgb.convert("RGBA"), "WEBP", exif=exif),
        ],
        "mpo": [encode(rgb, "MPO", save_all=True, append_images=[small.convert("RGB")])],
    } | dicom_corpus()


# --- changes ----------------------------------------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 8000, 65535]


def place(rng, n):
    "An offset, in the first bytes as often as anywhere: that is where the headers are."
    return rng.randrange(min(n, 600)) if rng.random() < 0.5 else rng.randrange(n)


def change(rng, n):
    "One random change of a file of n bytes, as plain values."
    kind = rng.choice(["flip"] * 4 + ["byte", "number", "number", "cut", "delete", "repeat", "swap"])
    at = place(rng, n)
    if kind == "flip":
        return kind, at, rng.randrange(8)
    if kind == "byte":
        return kind, at, rng.randrange(256)
    if kind == "number":
        return kind, at, rng.choice(["<H", ">H", "<I", ">I"]), rng.choice(NUMBERS)
    return kind, at, rng.randrange(1, 64)


def apply(data, op):
    "The bytes after one change."
    kind, at, *rest = op
    out = bytearray(data)
    if at >= len(out):
        return bytes(out)
    if kind == "flip":
        out[at] ^= 1 << rest[0]
    elif kind == "byte":
        out[at] = rest[0]
    elif kind == "number":
        size = struct.calcsize(rest[0])
        out[at : at + size] = struct.pack(rest[0], rest[1] & (256**size - 1))
    elif kind == "cut":
        del out[at:]
    elif kind == "delete":
        del out[at : at + rest[0]]
    elif kind == "repeat":
        out[at:at] = out[at : at + rest[0]] * rest[0]
    else:
        out[at : at + rest[0]] = out[at : at + rest[0]][::-1]
    return bytes(out)


def inflated(data):
    "What a zlib stream holds, as far as it can be read; its checksum doesn't matter."
    stream = zlib.decompressobj(-15)
    try:
        return stream.decompress(data[2:], 1_000_000)
    except zlib.error:
        return b""


def right_checksums(png):
    "The PNG with all checksums made right, so that changes reach the code behind them."
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        length = struct.unpack_from(">I", png, at)[0]
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if at + 12 + length > len(png):
            break
        if kind == b"IDAT" and (pixels := inflated(body)):
            body = zlib.compress(pixels, 1)
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + length
    return bytes(out + png[at:])


def build(base, ops, checksums):
    "The changed file."
    for op in ops:
        base = apply(base, op)
    return right_checksums(base) if checksums else base


def case(files, seed, format, number):
    "The file, the changes and the way to decode of one case."
    rng = random.Random(f"{seed} {format} {number}")
    base = rng.choice(files)
    ops = [change(rng, len(base)) for _ in range(rng.choice([1, 1, 1, 2, 3, 8]))]
    way = {"size": rng.choice([16, 16, None]), "with_colour": rng.random() < 0.5}
    return base, ops, format == "png" and rng.random() < 0.5, way


# --- the checks -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent():
    "Nothing of what libtiff and others print."
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def refuses(data):
    "The error of Pillow or pydicom for a file, or None."

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            if data[128:132] == b"DICM":
                _ = dcmread(io.BytesIO(data)).pixel_array
                return None
            with Image.open(io.BytesIO(data)) as image:
                image.load()
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    finally:
        signal.alarm(0)


def worker():
    "The process that decodes, if there is one."
    return next((w.process.pid for w in decoder._pool.all), None)


def cpu(pid):
    "Seconds of CPU time that a process has had."
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError):
        return 0.0


def memory(pid, key):
    "MB of a process, as /proc says; 0 where it is gone."
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split(f"{key}:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def check(data, way):
    "What is wrong with how a file is decoded (None: nothing), seconds of CPU time, MB, whether it was accepted."
    pid = worker()
    before, idle = cpu(pid), memory(pid, "VmRSS")
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
    except OSError:
        pass
    accepted, wrong = False, None
    try:
        pixels = decoder.decode(data, seconds=60, **way).pixels  # CPU time is the limit, not how busy the machine is
        accepted = True
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            wrong = f"pixels: {pixels.shape} {pixels.dtype}"
    except ImageError as e:
        if e.code in ("limit", "decoder"):
            wrong = f"{e.code}: {e}"
    except Exception as e:
        wrong = f"exception: {type(e).__name__}: {e}"
    same = worker() == pid
    seconds, mb = (cpu(pid) - before, memory(pid, "VmHWM") - idle) if same else (0.0, 0.0)
    if seconds > MAX_SECONDS:
        wrong = wrong or f"time: {seconds:.1f} s"
    if mb > MAX_MB:
        wrong = wrong or f"memory: {mb:.0f} MB"
    if accepted and not wrong and (error := refuses(data)):
        wrong = f"accepted, but: {error}"
    return wrong, seconds, mb, accepted


def reduced(base, ops, checksums, way):
    "The changes without those that the failure doesn't need."

    def kind(ops):
        return (check(build(base, ops, checksums), way)[0] or "").partition(":")[0]

    wanted = kind(ops)
    for op in list(ops):
        fewer = [o for o in ops if o is not op]
        if fewer and kind(fewer) == wanted:
            ops = fewer
    return ops


# --- the run ----------------------------------------------------------------------------------------------------------


def write(out, name, wrong, data):
    "Keep a failing file and what was wrong."
    (out / name).write_bytes(data)
    with open(out / "failures.jsonl", "a") as f:
        f.write(json.dumps({"file": name, "wrong": wrong}) + "\n")


def one(files, seed, format, counts, out):
    "The next case of a format."
    base, ops, checksums, way = case(files, seed, format, counts["calls"])
    data = build(base, ops, checksums)
    wrong, seconds, mb, accepted = check(data, way)
    name = f"{format}-{seed}-{counts['calls']}.bin"
    counts["calls"] += 1
    counts["accepted"] += accepted
    counts["slowest_s"], counts["largest_mb"] = (
        max(counts["slowest_s"], round(seconds, 3)),
        max(counts["largest_mb"], round(mb)),
    )
    if wrong:
        counts["failures"] += 1
        if counts["failures"] <= 20:
            write(out, name, wrong, build(base, reduced(base, ops, checksums, way), checksums))


def run(out, seconds, seed=0, formats=None, echo=None):
    "Fuzz the formats in turn; the summary."
    all_files = corpus()
    formats = formats or list(all_files)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "summary.json"
    summary = json.loads(file.read_text()) if file.exists() else {}
    summary = summary if summary.get("seed") == seed else {"seed": seed, "seconds": 0, "formats": {}}
    start, known, saved = time.monotonic(), summary["seconds"], 0.0
    new = {"calls": 0, "accepted": 0, "failures": 0, "slowest_s": 0.0, "largest_mb": 0}
    while (passed := time.monotonic() - start) < seconds:
        for format in formats:
            counts = summary["formats"].setdefault(format, dict(new))
            for _ in range(20):
                one(all_files[format], seed, format, counts, out)
        if passed - saved > 10:
            saved = passed
            summary["seconds"] = round(known + passed)
            file.write_text(json.dumps(summary, indent=1))
            if echo:
                echo(summary)
    summary["seconds"] = round(known + time.monotonic() - start)
    file.write_text(json.dumps(summary, indent=1))
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=list(corpus()), help="may be repeated; all by default")
    parser.add_argument("--out", default="build/fuzz")
    parser.add_argument("--file", help="check this file alone")
    args = parser.parse_args()
    if args.file:
        print(check(Path(args.file).read_bytes(), {"size": 16, "with_colour": True}))
        return
    summary = run(args.out, args.seconds, args.seed, args.format)
    print(json.dumps(summary, indent=1))
    sys.exit(any(c["failures"] for c in summary["formats"].values()))


if __name__ == "__main__":
    main()
