"""The dashboard's requirements, measured: `make bench-app`, eight minutes, on an idle machine with Chromium.

A real Voilà and a real Chromium on the same machine; the server alone is measured by a client that draws nothing.
`opening.py` has the first five requirements, `reading.py` the last four. Radiographs are synthetic. Writes
bench/dashboard.md and bench/dashboard.json.
"""

import argparse
import asyncio
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

from playwright.async_api import async_playwright
from served import ARGS, CHROMIUM

import opening
import reading
from bench import Sheet, machine
from xraypneu.model.bundle import load_bundle

INTRODUCTION = """# The dashboard

Written by `make bench-app`; don't edit. Voilà and Chromium share this machine, so the page's measurements include the
browser's own work; those "without a browser" are of a client that speaks HTTP and websockets and draws nothing.
Synthetic radiographs.
"""


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--arrivals", type=int, default=50, help="within a minute")
    parser.add_argument("--films", type=int, default=824)
    parser.add_argument("--out", default=str(HERE))
    args = parser.parse_args()
    sheet, numbers = Sheet(), {"machine": machine()}
    sheet.say(INTRODUCTION)
    sheet.say(f"{machine()}. Bundle `{load_bundle().hash[:12]}`.")
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        parts = {
            "kernel_s": lambda: opening.report_kernel(sheet, args.rounds),
            "page_s": lambda: opening.report_browser(sheet, browser, args.rounds),
            "arrivals_s": lambda: opening.report_arrivals(sheet, args.arrivals, 60),
            "private_mb": lambda: opening.report_memory(sheet, 3),
            "reading": lambda: reading.report(sheet, browser, args.films),
        }
        for name, part in parts.items():
            try:
                numbers[name] = await part()
            except Exception as e:  # the others are measured all the same
                traceback.print_exc()
                sheet.say(f"\n{name} was not measured: {type(e).__name__}.")
                sheet.check(f"{name}, which was not measured", float("nan"), 0, 0)
        await browser.close()
    return sheet.write(args.out, "dashboard", numbers)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
