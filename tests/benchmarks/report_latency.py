"""How long a report takes to write, how large it is, and how soon it answers a click.

A click on a cluster of the explorer is timed in the page, headless Chromium without a GPU: from the
click until the frame that shows its result has been drawn. Frames come every 16.7 ms, which is what a
click takes at least. From the root of the repository:

    python tests/benchmarks/report_latency.py mnist=mnist.mfcvae shapes=shapes.mfcvae --data DIR
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyro_mfcvae as mf

sys.path.insert(0, str(Path(__file__).parents[1]))
from browsing import chromium, open_report

# A frame is drawn after the callbacks that wait for it; a message arrives after that.
CLICKS = """
const [count, done] = arguments;
const radios = [...document.querySelectorAll(".picker input")];
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = resolve;
  channel.port2.postMessage(0);
}));
(async () => {
  const times = [];
  for (let i = 0; i < count; i++) {
    await drawn();
    const radio = radios[(i * 37 + 11) % radios.length];
    if (radio.checked) continue;
    const start = performance.now();
    radio.click();
    const handled = performance.now();
    await drawn();
    times.push([handled - start, performance.now() - start]);
  }
  done(times);
})();
"""


def held_out(name: str, root: str | None):
    """Data that models of this name were not trained on, their labels, and names of these."""
    if name == "mnist":
        x, y = mf.data.as_labelled(mf.data.mnist(root, train=False))
        return x, y, ["digit"]
    _, test = mf.data.RenderedShapes().split(test_fraction=0.2, seed=0)
    return test.images, test.labels, test.label_names


def click_times(driver, clicks: int) -> list[tuple[float, float]]:
    """Of clicks in an open report: ms until the handler has returned, and until the frame is drawn."""
    return [(handled, shown) for handled, shown in driver.execute_async_script(CLICKS, clicks)]


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("models", nargs="+", help="mnist=FILE or shapes=FILE")
    parser.add_argument("--data", help="folder of MNIST")
    parser.add_argument("--clicks", type=int, default=100)
    parser.add_argument("--out", type=Path, help="folder that keeps the reports")
    arguments = parser.parse_args()
    titles = ("data", "report s", "MB", "handler ms", "click ms", "max ms")
    print(f"{'model':8}" + "".join(f"{title:>12}" for title in titles))
    with tempfile.TemporaryDirectory() as temporary, chromium() as driver:
        for model in arguments.models:
            name, _, file = model.partition("=")
            fitted = mf.load(file)
            x, labels, names = held_out(name, arguments.data)
            start = time.perf_counter()
            path = fitted.report((arguments.out or Path(temporary)) / f"{name}.html", x, labels, names)
            seconds = time.perf_counter() - start
            open_report(driver, path)
            handled, shown = zip(*click_times(driver, arguments.clicks), strict=True)
            figures = (
                seconds,
                path.stat().st_size / 1e6,
                statistics.median(handled),
                statistics.median(shown),
            )
            print(f"{name:8}{len(x):12,}" + "".join(f"{value:12.1f}" for value in (*figures, max(shown))))


if __name__ == "__main__":
    main()
