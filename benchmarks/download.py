# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a download is, and how much memory it takes: minutes of two symbols from a fake exchange on loopback.

The server runs in a process of its own. Rows a second are those of the client and the server together on one machine;
an exchange's rate limit is usually slower than either. Memory is the client's peak, for periods of different lengths.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crossmargin_bt.candles.download import DownloadRequest, download
from crossmargin_bt.candles.exchange import Exchange

TESTS = Path(__file__).parents[1] / "tests"
DAY_MS = 86_400_000
START = 1_672_531_200_000  # 2023-01-01
SERVER = """
import sys
sys.path.insert(0, {tests!r})
from fake_exchange import FakeExchange, Truth
truth = Truth({start}, {start} + {days} * 86_400_000 + 600_000)
with FakeExchange({{"BTC": truth, "ETH": truth}}) as fake:
    print(fake.base, flush=True)
    sys.stdin.read()
"""


def measure(days: int) -> None:
    """Download this many days, in this process, and print rows per second and the peak of memory."""
    code = SERVER.format(tests=str(TESTS), start=START, days=days)
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    base = server.stdout.readline().strip()
    try:
        with tempfile.TemporaryDirectory() as folder:
            seconds, rows, size = asyncio.run(_timed(base, Path(folder), days))
    finally:
        server.stdin.close()
        server.wait()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{days:>4} days: {rows:>9,} rows in {seconds:5.1f} s, {rows / seconds:>8,.0f} rows/s, peak {peak:.0f} MB, {size / 1e6:.1f} MB stored"
    )


async def _timed(base: str, out: Path, days: int) -> tuple[float, int, int]:
    wanted = DownloadRequest(
        symbols=("BTCUSDT", "ETHUSDT"),
        kinds=("candles",),
        timeframe="1m",
        since_ms=START,
        until_ms=START + days * DAY_MS,
    )
    async with Exchange("binanceusdm", api_base=base, rate_limited=False) as exchange:
        begun = time.perf_counter()
        result = await download(exchange, wanted, out)
        seconds = time.perf_counter() - begun
    assert result.is_complete
    rows = sum(one.stored for one in result.outcomes)
    assert rows == 2 * days * 1440
    return seconds, rows, sum(path.stat().st_size for path in out.rglob("*.parquet"))


def main() -> None:
    """Measure each period in a process of its own, so that the memory peaks are comparable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("days", type=int, nargs="*", default=[90, 365])
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = parser.parse_args()
    for days in given.days:
        if given.here:
            measure(days)
        else:
            subprocess.run([sys.executable, __file__, str(days), "--here"], check=True)


if __name__ == "__main__":
    main()
