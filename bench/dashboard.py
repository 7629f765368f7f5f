"""The dashboard measured as users have it: a real Voilà, a real Chromium on the same machine. `make bench-app`.

Radiographs are synthetic. Writes bench/dashboard.md and bench/dashboard.json.
"""

import argparse
import asyncio
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

from playwright.async_api import async_playwright
from served import ARGS, CHROMIUM, READY, ROOT, TRANSFER, Server, film

import opening as starts
from bench import Sheet, machine
from xraypneu.model.bundle import load_bundle

MEGABYTE = 1024**2
# milliseconds from the drop to the verdict of the n-th file, taken in the page to leave out the browser's driver
DROP = """([files, n]) => new Promise((done, failed) => {
    const transfer = (TRANSFER)(files), began = performance.now();
    const look = () => {
        const ended = document.querySelectorAll('.batch tbody tr').length >= n && document.querySelector('.verdict');
        if (ended) done(performance.now() - began);
        else if (performance.now() - began > 60000) failed(new Error('no verdict after a minute'));
        else setTimeout(look, 10);
    };
    document.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
    look();
})""".replace("TRANSFER", TRANSFER)


def encoded(name, data):
    return [name, base64.b64encode(data).decode()]


async def visit(browser, url):
    "A person who opens the page: the page, and seconds until it can be used."
    context = await browser.new_context()
    page = await context.new_page()
    began = time.perf_counter()
    await page.goto(url, timeout=120_000)
    await page.wait_for_selector(READY, timeout=120_000)
    return page, time.perf_counter() - began


async def leave(page, server=None):
    "The person closes the page, which ends its process; that must be over before the next one is timed."
    before = len(server.kernels()) if server else 0
    await page.goto("about:blank")
    await page.context.close()
    deadline = time.monotonic() + 20
    while server and len(server.kernels()) >= before:
        if time.monotonic() > deadline:
            raise RuntimeError("a closed page's process does not end")
        await asyncio.sleep(0.1)


async def opening(browser, light, heavy, n):
    "Seconds until the page is usable, also with TensorFlow imported; one after the other, n times."
    seen = {"light": [], "heavy": []}
    for i in range(n + 1):
        for name, server in (("light", light), ("heavy", heavy)):
            page, seconds = await visit(browser, server.url)
            if i:
                seen[name].append(seconds)  # the first one warms the disk
            await leave(page, server)
    return seen


async def verdicts(browser, server, n):
    "Milliseconds from a dropped JPEG of 2 megapixels to its verdict, the first of a session apart."
    files = [encoded(f"film{i}.jpg", film(i, i % 2 == 1, size=1415, format="JPEG")) for i in range(n + 1)]
    page, _ = await visit(browser, server.url)
    times = [await page.evaluate(DROP, [[f], i + 1]) for i, f in enumerate(files)]
    await leave(page, server)
    return times[0], times[1:], len(base64.b64decode(files[0][1])) / 1024


async def crowd(browser, server, n, images):
    "n sessions that arrive within a minute and are all open; then each uploads its images, spread over a minute."
    files = [encoded(f"film{i}.png", film(i, i % 2 == 1, size=512)) for i in range(images)]
    free = psutil.virtual_memory().available

    async def arrive(i):
        await asyncio.sleep(60 * i / n)
        return await visit(browser, server.url)

    arrived = await asyncio.gather(*[arrive(i) for i in range(n)], return_exceptions=True)
    pages = [a for a in arrived if not isinstance(a, BaseException)]
    used = (free - psutil.virtual_memory().available) / MEGABYTE

    async def upload(page, i):
        times = []
        for k, f in enumerate(files):
            began = time.perf_counter()
            await asyncio.sleep(
                60 / images * (i / n if k == 0 else 1)
                - (0 if k == 0 else min(time.perf_counter() - began, 60 / images))
            )
            times.append(await page.evaluate(DROP, [[f], k + 1]))
        return times

    uploads = await asyncio.gather(*[upload(p, i) for i, (p, _) in enumerate(pages)], return_exceptions=True)
    failures = [str(x) for x in [*arrived, *uploads] if isinstance(x, BaseException)]
    verdict = sorted(t for u in uploads if not isinstance(u, BaseException) for t in u)
    for page, _ in pages:
        await leave(page)
    return {
        "sessions": n,
        "failures": failures,
        "open_s": sorted(s for _, s in pages),
        "verdict_ms": verdict,
        "machine_mb": used,
    }


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sessions", type=int, nargs="*", default=[20, 50])
    parser.add_argument("--out", default=str(HERE))
    args = parser.parse_args()
    sheet = Sheet()
    say, check, table = sheet.say, sheet.check, sheet.table

    say(
        "# The dashboard\n\nWritten by `make bench-app`; don't edit. Voilà and Chromium share this machine, "
        "so every measurement includes the browser's own work. Synthetic radiographs.\n"
    )
    say(f"{machine()}. Bundle `{load_bundle().hash[:12]}`.\n")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        book = nbformat.read(ROOT / "nbs/app/dashboard.ipynb", 4)
        book.cells.insert(0, nbformat.v4.new_code_cell("import tensorflow"))
        nbformat.write(book, folder / "heavy.ipynb")
        (folder / "light").mkdir()
        async with async_playwright() as p:
            browser = await p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            with Server(folder / "light", XRAYPNEU_SESSIONS="200") as light:
                with Server(folder, notebook=folder / "heavy.ipynb") as heavy:
                    seen = await opening(browser, light, heavy, args.rounds)
                median = {k: statistics.median(v) for k, v in seen.items()}
                ratio = statistics.median(b / a for a, b in zip(seen["light"], seen["heavy"], strict=True))
                say("## From `GET` to a page that can be used, one person, warm server\n")
                pages = (("the dashboard", "light"), ("the same with TensorFlow imported", "heavy"))
                rows = [(what, f"{median[k]:.2f}", f"{max(seen[k]):.2f}") for what, k in pages]
                table(["", "s, median", "slowest"], rows)
                check("page with TensorFlow / page, time to usable", ratio, 2, 3)

                first, times, kb = await verdicts(browser, light, 3 * args.rounds)
                say(f"\n## From the drop of a JPEG of 2 megapixels ({kb:.0f} KiB) to its verdict\n")
                ms = {"median": statistics.median(times), f"slowest of {len(times)}": max(times)}
                table(["", "s"], [(k, f"{v / 1000:.2f}") for k, v in (ms | {"first of a session": first}).items()])
                check("drop to verdict, median, s", statistics.median(times) / 1000, 1.5, 0.5, fewer=True)
            starts_seen = await starts.measured(browser, args.rounds, 50, 60)
            starts.report(sheet, starts_seen, 50, 60)
            crowds = []
            for n in args.sessions:
                with Server(folder / "light", XRAYPNEU_SESSIONS="200") as server:
                    crowds.append(await crowd(browser, server, n, 5))
            await browser.close()
    say(
        "\n## Many at once\n\n"
        "Sessions arrive within a minute; when all are open, each uploads five images within a minute. "
        "Memory: of the machine, server and browser together.\n"
    )
    rows = []
    for c in crowds:
        v, o = c["verdict_ms"], c["open_s"]
        usable = f"{statistics.median(o):.1f}, {o[-1]:.1f}"
        verdict = f"{statistics.median(v) / 1000:.2f}, {quantile(v, 0.95) / 1000:.2f}, {v[-1] / 1000:.2f}"
        rows.append((c["sessions"], len(c["failures"]), usable, verdict, f"{c['machine_mb'] / c['sessions']:.0f}"))
    verdict = "verdict, median, 95 % and slowest, s"
    table(["sessions", "failures", "page usable, median and slowest, s", verdict, "MB per session"], rows)
    for f in (f for c in crowds for f in c["failures"][:5]):
        say(f"\nFailed: {f}")
    check(
        "sessions at once, none failing", max((c["sessions"] for c in crowds if not c["failures"]), default=0), 20, 50
    )
    return sheet.write(
        args.out,
        "dashboard",
        {
            "machine": machine(),
            "opening_s": seen,
            "verdict_ms": times,
            "crowds": crowds,
            "starts": starts_seen,
        },
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
