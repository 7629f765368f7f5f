"""How fast films are read on an open page: the last four requirements of `make bench-app`.

Alone, and shorter: `python bench/reading.py --films 200`. All times are taken in the page, without the browser's
driver. The films are synthetic: a few that are drawn, dropped again and again under other names.
"""

import argparse
import asyncio
import base64
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

from opening import serving, visit  # noqa: E402
from served import ARGS, CHROMIUM, film  # noqa: E402

DRAWN, SIZE = 24, 300  # films, and their pixels
ROWS = 100  # over which films/s are measured
LIMIT_S = 180  # for all films of a drop
# drops films, all at once; milliseconds from then until each has its row
DROP = """([drawn, names, limit]) => new Promise((done, failed) => {
    const transfer = new DataTransfer(), times = [];
    const data = drawn.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    names.forEach((name, i) => transfer.items.add(new File([data[i % data.length]], name)));
    const began = performance.now();
    const watch = new MutationObserver((changes) => {
        for (const change of changes)
            for (const _ of change.addedNodes) times.push(performance.now() - began);
        if (times.length >= names.length) done(times);
    });
    watch.observe(document.querySelector('.batch tbody'), { childList: true });
    setTimeout(() => failed(new Error(`${times.length} of ${names.length} films in time`)), limit);
    document.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
})"""
# moves the slider; milliseconds until the frame is painted in which all rows and the panel have the new point
MOVE = """(value) => new Promise((done, failed) => {
    const slider = document.querySelector('#xp-threshold'), text = value.toFixed(3), began = performance.now();
    const cells = [...document.querySelectorAll('.batch tbody tr td:nth-child(5)')];
    const panel = document.querySelector('output[for=xp-threshold]');
    const look = () => {
        const moved = panel.textContent.startsWith(text) && cells.every((c) => c.textContent === text);
        if (moved) setTimeout(() => done(performance.now() - began)); // after this frame's paint
        else if (performance.now() - began > 20000) failed(new Error('the rows did not move'));
        else requestAnimationFrame(look);
    };
    slider.value = value;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    requestAnimationFrame(look);
})"""
NAMED = """(name) => document.querySelector('.result h3.name')?.textContent === name &&
    document.querySelector('.result .verdict')"""


def drawn(n=DRAWN):
    "Films, every second one with an opacity, in base64."
    return [base64.b64encode(film(i, i % 2 == 1, size=SIZE)).decode() for i in range(n)]


async def drop(page, n):
    "Drop n films at once; seconds until each has its row, in the order of the rows."
    names = [f"{i:03}.png" for i in range(n)]
    times = await page.evaluate(DROP, [drawn(), names, 1000 * LIMIT_S])
    assert await page.locator(".batch tbody .error").count() == 0, "films that could not be read"
    return [t / 1000 for t in times]


def pace(times, first):
    "Films per second over `ROWS` rows, from a number on."
    rows = times[first : first + ROWS]
    return (len(rows) - 1) / (rows[-1] - rows[0])


async def moves(page, n):
    "Milliseconds of n moves of the slider, to and fro."
    await page.evaluate(MOVE, 0.5)
    return [await page.evaluate(MOVE, 0.9 if i % 2 else 0.1) for i in range(n)]


async def keys(page, n):
    "Drop n films, then go through them by key; how many show their verdict, and seconds from the drop to the last."
    await page.evaluate(DROP, [drawn(n), [f"{i:03}.png" for i in range(n)], 1000 * LIMIT_S])
    began, reached = time.perf_counter(), 0
    for i in range(n):
        if i:
            await page.keyboard.press("j")
        await page.wait_for_function(NAMED, arg=f"{i:03}.png", timeout=10_000)
        reached += 1
    return reached, time.perf_counter() - began


async def report(sheet, browser, films=824, drops=2, n_moves=21, n_keys=20):
    "Measure, say and check all of it."
    batches = []
    with serving() as server:
        for _ in range(drops):
            context = await browser.new_context(viewport={"width": 1280, "height": 800})
            page, _ = await visit(context, server)
            batches.append(await drop(page, films))
            if len(batches) == drops:
                took = await moves(page, n_moves)
            await context.close()
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        page, _ = await visit(context, server)
        reached, seconds = await keys(page, n_keys)
        await context.close()
    last = films - ROWS - films % ROWS  # of 824, the hundred that ends with the 800th
    sheet.say(f"\n## {films} films of {SIZE} x {SIZE} pixels, dropped at once, {drops} times\n")
    rows = [(f"{t[-1]:.1f}", f"{pace(t, 0):.1f}", f"{pace(t, last):.1f}") for t in batches]
    head = ["to the last verdict, s", f"films/s, first {ROWS}", f"films/s, {last + 1} to {last + ROWS}"]
    sheet.table(head, rows)
    even = statistics.median(pace(t, last) / pace(t, 0) for t in batches)
    sheet.check(f"films/s into the table, the {last + ROWS}th against the first", even, 0.9, 1)
    slowest = max(t[-1] for t in batches)
    sheet.check(f"{films} films dropped at once, to the last verdict, s", slowest, 60, 30, fewer=True)
    sheet.say(f"\n## A move of the threshold with {films} rows, to the last repaint\n")
    sheet.table(["median, ms", f"slowest of {n_moves}, ms"], [(f"{statistics.median(took):.0f}", f"{max(took):.0f}")])
    sheet.check(f"move of the threshold with {films} rows, ms", statistics.median(took), 100, 50, fewer=True)
    sheet.say(f"\n## {n_keys} films by key\n")
    sheet.say(f"From the drop on, J alone shows the verdicts of {reached}, the last after {seconds:.1f} s of keys.")
    sheet.check(f"films of {n_keys} whose verdict keys reach after the drop, no mouse", reached, n_keys, n_keys)
    return {"drops_s": batches, "moves_ms": took, "keys": [reached, seconds]}


async def main():
    from playwright.async_api import async_playwright

    from bench import Sheet

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=824)
    args = parser.parse_args()
    sheet = Sheet()
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        await report(sheet, browser, args.films, 1)
        await browser.close()
    for check in sheet.checks:
        print(*check)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
