"""How soon a page opens: sessions forked from a warm process against sessions that each start one, in one run.

Part of `make bench-app`; alone, and shorter: `python bench/opening.py --rounds 3 --arrivals 10 --seconds 12`.
The server is measured by a client that speaks HTTP and websockets and draws nothing, the page by a browser.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

import load  # noqa: E402
from served import ARGS, CHROMIUM, READY, Server, film  # noqa: E402

MEGABYTE = 1024**2
STARTS = {"forked": "1", "ordinary": "0"}  # of a session: XRAYPNEU_WARM
LINE = {"offline": False, "latency": 100, "downloadThroughput": 3e6 / 8, "uploadThroughput": 3e6 / 8}  # ms, bytes/s
ROWS = {
    "kernel_s": "kernel ready after `GET`, s",
    "page_s": "page complete and its widget answered over the websocket, s",
    "browser_s": "page usable in a browser, first visit, s",
    "again_s": "second visit, s",
    "slow_s": "second visit, 3 Mbit/s and 100 ms, s",
    "private_mb": "memory of a further session after a film, private, MB",
    "arrivals_s": "{arrivals} arrivals within {seconds} s, slowest page, s",
}


async def kernel_ready(port):
    "Seconds from the request until the page names its kernel, which then answers."
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began, seen = time.perf_counter(), b""
    writer.write(f"GET /?token={load.TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    ready = None
    while data := await reader.read(65_536):
        seen += data
        if ready is None and b'"kernelId"' in seen:
            ready = time.perf_counter() - began
    writer.close()
    return ready


async def light_page(server):
    "A visitor without a browser, and seconds until the page's widget has answered."
    began = time.perf_counter()
    me = await load.Visitor(server).start()
    await me.ping()
    return me, time.perf_counter() - began


async def private_memory(server):
    "Private megabytes of a new session's process after a film of 2 megapixels."
    me, _ = await light_page(server)
    kernel = max(server.kernels(), key=lambda k: k.create_time())
    await me.upload("film.jpg", film(1, True, size=1415, format="JPEG"))
    used = kernel.memory_full_info().uss / MEGABYTE
    await me.leave()
    return used


async def arrivals(server, n, seconds):
    "The slowest page of n light visitors who arrive evenly within some seconds, and stay."

    async def arrive(i):
        await asyncio.sleep(seconds * i / n)
        return await light_page(server)

    pages = await asyncio.gather(*[arrive(i) for i in range(n)])
    for me, _ in pages:
        await me.leave()
    return max(s for _, s in pages)


async def browser_visits(browser, server):
    "Seconds until the page can be used: a first visit, a second, and a third over a slow line."
    context, seen = await browser.new_context(), []
    for conditions in (None, None, LINE):
        page = await context.new_page()
        if conditions:
            session = await context.new_cdp_session(page)
            await session.send("Network.enable")
            await session.send("Network.emulateNetworkConditions", conditions)
        began = time.perf_counter()
        await page.goto(f"{server.url}?token={load.TOKEN}", timeout=120_000)
        await page.wait_for_selector(READY, timeout=120_000)
        seen.append(time.perf_counter() - began)
        await page.goto("about:blank")
        await page.close()
    await context.close()
    return seen


async def measured(browser, rounds, n, seconds):
    "All rows of both starts: medians of rounds that take turns, the arrivals once. Without a browser, not its rows."
    with tempfile.TemporaryDirectory() as folder:
        common = {"XRAYPNEU_TOKEN": load.TOKEN, "XRAYPNEU_SESSIONS": "200"}
        servers = {k: Server(folder, **common, XRAYPNEU_WARM=v) for k, v in STARTS.items()}
        values = {k: {row: [] for row in ROWS} for k in STARTS}
        try:
            for i in range(rounds + 1):
                for name, server in servers.items():
                    took = {"kernel_s": await kernel_ready(server.port)}
                    me, took["page_s"] = await light_page(server)
                    await me.leave()
                    took["private_mb"] = await private_memory(server)
                    if browser:
                        visits = await browser_visits(browser, server)
                        took |= dict(zip(("browser_s", "again_s", "slow_s"), visits, strict=True))
                    for row, value in took.items():
                        values[name][row] += [value] * (i > 0)  # the first round warms the disk
            for name, server in servers.items():
                values[name]["arrivals_s"].append(await arrivals(server, n, seconds))
        finally:
            for server in servers.values():
                server.stop()
    return {k: {row: statistics.median(v) for row, v in rows.items() if v} for k, rows in values.items()}


def report(sheet, values, n, seconds):
    "The table, and what must hold."
    sheet.say(
        "\n## A session's start: forked from a warm process, or an ordinary one (`XRAYPNEU_WARM=0`), in one run\n\n"
        "Medians; the rows of kernel, widget, memory and arrivals are of a client without a browser.\n"
    )
    both = [values[k] for k in STARTS]
    texts = {row: text.format(arrivals=n, seconds=seconds) for row, text in ROWS.items() if row in both[0]}
    rows = [(text, *(f"{v[row]:.2f}" for v in both)) for row, text in texts.items()]
    sheet.table(["", *STARTS], rows)
    forked, ordinary = both
    sheet.check("kernel ready, ordinary / forked", ordinary["kernel_s"] / forked["kernel_s"], 5, 10)
    sheet.check("private memory of a forked session, MB", forked["private_mb"], 50, 30, fewer=True)
    sheet.check("slowest page of the arrivals, forked, s", forked["arrivals_s"], 5, 1, fewer=True)


async def main():
    from playwright.async_api import async_playwright

    from bench import Sheet

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arrivals", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=12, help="within which they arrive")
    parser.add_argument("--light", action="store_true", help="without the browser's rows")
    args = parser.parse_args()
    sheet = Sheet()
    async with async_playwright() as p:
        browser = None if args.light else await p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        values = await measured(browser, args.rounds, args.arrivals, args.seconds)
        if browser:
            await browser.close()
    print(f"Load of the machine {psutil.getloadavg()[0]:.1f}")
    report(sheet, values, args.arrivals, args.seconds)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
