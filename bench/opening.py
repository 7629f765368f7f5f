"""How soon a page opens, and what a session costs: the first five requirements of `make bench-app`.

Alone, and shorter: `python bench/opening.py --rounds 3 --arrivals 10 --seconds 12`. The server is measured by a client
that speaks HTTP and websockets and draws nothing (`load.Visitor`), the page by a browser. What is compared takes turns
in one run, and nothing else runs meanwhile: the processes of earlier sessions have ended before the next is timed.
"""

import argparse
import asyncio
import contextlib
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
SETTINGS = {"XRAYPNEU_TOKEN": load.TOKEN, "XRAYPNEU_SESSIONS": "200"}
ORDINARY = {"XRAYPNEU_WARM": "0"}  # a session's process is started, not forked
FORMER = ["--template=lab"]  # Voilà's own page of ninety scripts, as the dashboard's was
LINE = {"offline": False, "latency": 100, "downloadThroughput": 3e6 / 8, "uploadThroughput": 3e6 / 8}  # ms, bytes/s


@contextlib.contextmanager
def serving(*arguments, **env):
    "A server of its own folder."
    with tempfile.TemporaryDirectory() as folder, Server(folder, *arguments, **SETTINGS, **env) as server:
        yield server


async def alone(*servers):
    "Wait until the processes of all sessions have ended, and a moment more."
    deadline = time.monotonic() + 60
    while any(server.kernels() for server in servers):
        if time.monotonic() > deadline:
            raise RuntimeError("a session's process does not end")
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)


# --- the server, without a browser


async def kernel_ready(server):
    "Seconds from the request until the page names its session, whose process then answers; the session ends."
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    began, seen, ready = time.perf_counter(), b"", None
    head = f"GET /?token={load.TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    while data := await reader.read(65_536):
        seen += data
        if ready is None and b'"kernelId"' in seen:
            ready = time.perf_counter() - began
    writer.close()
    me = load.Visitor(server)
    me.keep(seen.partition(b"\r\n\r\n")[0], seen)
    await me.leave()
    return ready


async def kernel_rounds(rounds):
    "Seconds until the process answers, of forked and of ordinary sessions."
    seen = {"forked": [], "ordinary": []}
    with serving() as forked, serving(**ORDINARY) as ordinary:
        for i in range(rounds + 1):
            for name, server in (("forked", forked), ("ordinary", ordinary)):
                await alone(forked, ordinary)
                seconds = await kernel_ready(server)
                seen[name] += [seconds] * (i > 0)  # the first one warms the disk
    return seen


async def light_page(server):
    "A visitor without a browser, and seconds until the page's widget has answered."
    began = time.perf_counter()
    me = await load.Visitor(server).start()
    await me.ping()
    return me, time.perf_counter() - began


async def private_memory(rounds):
    "Private megabytes of a new session's process after a film of 2 megapixels, each time."
    used, data = [], film(1, True, size=1415, format="JPEG")
    with serving() as server:
        for _ in range(rounds):
            await alone(server)
            me, _ = await light_page(server)
            (kernel,) = server.kernels()
            await me.upload("film.jpg", data)
            used.append(kernel.memory_full_info().uss / MEGABYTE)
            await me.leave()
    return used


async def arrivals(n, seconds):
    "Seconds until each page is ready, of n light visitors who arrive evenly within some seconds, and stay."

    async def arrive(i):
        await asyncio.sleep(seconds * i / n)
        return await light_page(server)

    with serving() as server:
        await (await light_page(server))[0].leave()
        await alone(server)
        pages = await asyncio.gather(*[arrive(i) for i in range(n)])
        for me, _ in pages:
            await me.leave()
    return [s for _, s in pages]


# --- the page, in a browser


async def visit(context, server, line=None):
    "A page that can be used, and seconds until then; the line as `Network.emulateNetworkConditions` takes it."
    page = await context.new_page()
    if line:
        session = await context.new_cdp_session(page)
        await session.send("Network.enable")
        await session.send("Network.emulateNetworkConditions", line)
    began = time.perf_counter()
    await page.goto(f"{server.url}?token={load.TOKEN}", timeout=120_000)
    await page.wait_for_selector(READY, timeout=120_000)
    return page, time.perf_counter() - began


async def browser_rounds(browser, rounds):
    """Seconds until the page can be used: a first visit, a second over a slow line, the first of the former page.

    The former page is today's script in Voilà's own template, its session an ordinary one. A first visit has an empty
    cache."""
    seen = {"first": [], "second_slow": [], "former": []}
    with serving() as server, serving(*FORMER, **ORDINARY) as former:
        for i in range(rounds + 1):
            visits = (("first", server, None), ("second_slow", server, LINE), ("former", former, None))
            context = await browser.new_context()
            for name, which, line in visits:
                if which is former:
                    await context.close()
                    context = await browser.new_context()
                await alone(server, former)
                page, seconds = await visit(context, which, line)
                seen[name] += [seconds] * (i > 0)
                await page.goto("about:blank")  # ends the session
                await page.close()
            await context.close()
    return seen


# --- all of them


def spread(values):
    "Median, fastest and slowest, with two digits."
    return [f"{v:.2f}" for v in (statistics.median(values), min(values), max(values))]


def ratio(slower, faster):
    "Median of the rounds' ratios."
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


async def report_kernel(sheet, rounds):
    seen = await kernel_rounds(rounds)
    sheet.say("\n## From `GET` to a session's process that answers, s, without a browser\n")
    names = {"forked": "forked from the warm process", "ordinary": "ordinary start (`XRAYPNEU_WARM=0`)"}
    sheet.table(["", "median", "fastest", "slowest"], [(names[k], *spread(v)) for k, v in seen.items()])
    sheet.check("kernel ready after GET, ordinary / forked", ratio(seen["ordinary"], seen["forked"]), 5, 10)
    return seen


async def report_browser(sheet, browser, rounds):
    seen = await browser_rounds(browser, rounds)
    sheet.say("\n## From `GET` to a page that can be used, s, one browser\n")
    names = {
        "first": "first visit",
        "second_slow": "second visit, 3 Mbit/s and 100 ms",
        "former": "first visit of the former page, with an ordinary start",
    }
    sheet.table(["", "median", "fastest", "slowest"], [(names[k], *spread(v)) for k, v in seen.items()])
    sheet.check("GET to usable, former page / page", ratio(seen["former"], seen["first"]), 2, 3)
    slow = statistics.median(seen["second_slow"])
    sheet.check("GET to usable, second visit at 3 Mbit/s and 100 ms, s", slow, 2, 1, fewer=True)
    return seen


async def report_arrivals(sheet, n, seconds):
    seen = await arrivals(n, seconds)
    sheet.say(f"\n## {n} arrivals within {seconds:g} s, without a browser\n")
    sheet.table(["", "median", "fastest", "slowest"], [("page ready, s", *spread(seen))])
    sheet.check(f"{n} arrivals within {seconds:g} s, slowest page, s", max(seen), 5, 2, fewer=True)
    return seen


async def report_memory(sheet, rounds):
    seen = await private_memory(rounds)
    sheet.say("\n## A further session, after a film of 2 megapixels\n")
    sheet.table(["", "median", "least", "most"], [("private memory, MB", *spread(seen))])
    sheet.check("private memory of a further session, MB", statistics.median(seen), 50, 30, fewer=True)
    return seen


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
    await report_kernel(sheet, args.rounds)
    if not args.light:
        async with async_playwright() as p:
            browser = await p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            await report_browser(sheet, browser, args.rounds)
            await browser.close()
    await report_arrivals(sheet, args.arrivals, args.seconds)
    await report_memory(sheet, args.rounds)
    print(f"Load of the machine {psutil.getloadavg()[0]:.1f}")
    for check in sheet.checks:
        print(*check)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
