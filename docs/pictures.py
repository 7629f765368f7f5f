"""Take the front page's two pictures anew, after a change of how page or report look: `python docs/pictures.py`.

The dashboard shows synthetic radiographs with all five verdicts, the report is that of the last `make run`.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from served import ARGS, CHROMIUM, READY, Server, film

from xraypneu.model.verdict import NORMAL, NOT_RADIOGRAPH, OUT_OF_SCOPE, PNEUMONIA, UNSURE
from xraypneu.serving.predict import Predictor

IMAGES = ROOT / "nbs/images"
SHOWN = [PNEUMONIA, NORMAL, UNSURE, NORMAL, NOT_RADIOGRAPH, OUT_OF_SCOPE, PNEUMONIA, OUT_OF_SCOPE, NORMAL]
MOST = 400  # synthetic patients to look through for a verdict


def turned(data):
    "The film on its side."
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).rotate(90, expand=True).save(file, "PNG")
    return file.getvalue()


def films_of(verdicts):
    "Synthetic films to which the shipped model gives these verdicts, in this order."
    predictor, found = Predictor(), {v: [] for v in verdicts}
    for patient in range(MOST):
        data = film(patient, ill=patient % 2 == 0, size=800)
        data = turned(data) if patient % 20 == 19 else data
        found.get(predictor.predict(data).explanation.verdict, []).append(data)
        if all(len(found[v]) >= verdicts.count(v) for v in verdicts):
            return [found[v].pop(0) for v in verdicts]
    raise SystemExit(f"{MOST} synthetic patients have too few films of { {v: len(f) for v, f in found.items()} }")


def dashboard(browser, folder):
    "The reading room with its first film and its map."
    with Server(folder) as server:
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
        page.goto(server.url)
        page.wait_for_selector(READY, timeout=60_000)
        with page.expect_file_chooser() as chooser:
            page.click("button.choose")
        files = enumerate(films_of(SHOWN), 1)
        chooser.value.set_files(
            [{"name": f"synthetic-{i:02}.png", "mimeType": "image/png", "buffer": data} for i, data in files]
        )
        page.wait_for_function(f"document.querySelectorAll('.batch tbody tr').length === {len(SHOWN)}")
        page.locator(".worklist [data-id]", has_text="synthetic-01.png").click()
        page.wait_for_function("document.querySelector('h3.name')?.innerText === 'synthetic-01.png'")
        page.wait_for_timeout(1000)  # the map fades in
        page.screenshot(path=IMAGES / "dashboard.png")


def report(browser):
    "The beginning of the evaluation's report."
    page = browser.new_page(viewport={"width": 1280, "height": 1130}, color_scheme="light")
    page.goto((ROOT / "reports/evaluate.html").as_uri())
    page.screenshot(path=IMAGES / "report.png")


with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
    browser = p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
    dashboard(browser, Path(folder))
    report(browser)
for path in IMAGES.glob("*.png"):
    Image.open(path).convert("RGB").save(path, optimize=True)
