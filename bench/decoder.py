"""What decoding in a worker process costs per film, compared with decoding in this one: `python bench/decoder.py`."""

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from xraypneu.data import decoder
from xraypneu.data.sample import draw_radiograph
from xraypneu.serving import predict


def encoded(image, format, **kw):
    "The picture as the bytes of a file."
    buffer = io.BytesIO()
    image.save(buffer, format, **kw)
    return buffer.getvalue()


def dicom(pixels):
    "The bytes of an uncompressed DICOM file of 12 bits."
    ds, ds.file_meta = Dataset(), FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PixelRepresentation = *pixels.shape, 1, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PhotometricInterpretation = 16, 12, 11, "MONOCHROME2"
    ds.PixelData = pixels.astype("<u2").tobytes()
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def films():
    "Name to the bytes of an ordinary film."
    drawn = Image.fromarray(draw_radiograph(4, size=1024)[0])
    grain = np.random.default_rng(0).normal(0, 2, (1200, 1500))  # as a detector's, so that the files are as large
    pixels = np.clip(np.asarray(drawn.resize((1500, 1200)), dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    return {
        "JPEG, grey": encoded(image, "JPEG", quality=90),
        "JPEG, RGB": encoded(image.convert("RGB"), "JPEG", quality=90),
        "PNG, grey": encoded(image, "PNG"),
        "DICOM, 12 bits": dicom(pixels.astype(np.uint16) * 16),
    }


def cpu():
    "Seconds of CPU time of this process and its workers."
    stats = (Path(f"/proc/{w.process.pid}/schedstat") for w in decoder._pool.all)
    return time.process_time() + sum(int(p.read_text().split()[0]) for p in stats if p.exists()) / 1e9


def cost(function, decode):
    "Seconds of wall-clock and of CPU time that a call takes with this way to decode."
    predict.decode = decode
    start, before = time.perf_counter(), cpu()
    function()
    return time.perf_counter() - start, cpu() - before


def compare(name, function, rounds, per=1):
    "Print medians of interleaved rounds, here and in a worker, and the median of the ratios of neighbours."
    worker, here = decoder.decode, in_process
    for way in (here, worker):
        cost(function, way)
    pairs = [(cost(function, here), cost(function, worker)) for _ in range(rounds)]
    cells = []
    for kind in (0, 1):
        a, b = (1000 / per * statistics.median(p[way][kind] for p in pairs) for way in (0, 1))
        ratio = statistics.median(w[kind] / h[kind] for h, w in pairs)
        cells += [f"{a:.1f}", f"{b:.1f}", f"{100 * (ratio - 1):+.0f} %"]
    print("|", " | ".join([name, *cells]), "|", flush=True)


def in_process(source, size, name=None, with_colour=False, keep_pixels=True):
    "What `decode` does, without a worker."
    return decoder._here(source, size, size, name, with_colour, keep_pixels)


def cold(path):
    "Seconds that a new process takes to predict one film, by way."
    here = "from xraypneu.data import decoder; from xraypneu.serving import predict; \
predict.decode = lambda s, z, n=None, **k: decoder._here(s, z, z, n, \
k['with_colour'], k['keep_pixels']); predict.warm_up = lambda: None; "
    code = f"from xraypneu.serving.predict import Predictor; Predictor().predict({str(path)!r})"
    out = []
    for first in (here, ""):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", first + code], check=True)
        out.append(time.perf_counter() - start)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    predictor = predict.Predictor()
    print(
        "| 1500 x 1200, ms per film | here | in a worker | | CPU here | CPU in a worker | |\n"
        "|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, data in films().items():
            path = Path(folder) / "film"
            path.write_bytes(data)
            compare(f"predict, {name}", lambda path=path: predictor.predict(path), 3 * rounds)
            batch = [path] * 64
            compare(f"predict_batch, {name}", lambda batch=batch: list(predictor.predict_batch(batch)), rounds, 64)
        pairs = [cold(path) for _ in range(rounds)]
    a, b = (1000 * statistics.median(p[i] for p in pairs) for i in (0, 1))
    print(f"| one film in a new process | {a:.0f} | {b:.0f} | {100 * (b / a - 1):+.0f} % | | | |")


if __name__ == "__main__":
    main()
