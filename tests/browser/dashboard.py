"""The dashboard in a real browser: an empty project, a full cycle started by its button, every page in three looks.

``make test-browser``. Screenshots go to the folder that MNTRADING_SCREENSHOTS names. Ends with one line of figures, and
with exit code 1 when something is broken. Without Chromium it is passed over, unless MNTRADING_REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT: Final = Path(__file__).parents[2]
PAGES: Final = {
    "": "Overview", "run": "Run", "live": "Production & live", "universe": "Universe & screening",
    "pairs": "Pair explorer", "models": "Models", "backtest": "Backtest", "artifacts": "Artifacts & report",
}  # fmt: skip
LOOKS: Final = (("light", 1280), ("dark", 1280), ("light", 390))
FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
QUIET: Final = """() => {
  const one = (name) => document.querySelector(`[data-testid=${name}]`);
  const app = one('stApp'), main = one('stMainBlockContainer');
  const busy = !app || app.dataset.testScriptState === 'running' || one('stSkeleton')
    || document.querySelector('[data-stale=true]');
  return busy || !document.querySelector('h1') ? 0 : main.getBoundingClientRect().height;
}"""
CYCLE_SECONDS: Final = 900
PASSWORD: Final = "correct horse battery"  # noqa: S105 - of this run alone


@dataclass
class Found:
    """What was seen.

    Parameters
    ----------
    broken
        Sentences; empty is good.
    first, whole
        Seconds until a page's title stands, and until the page does.
    views
        How many times a page or a tab of one was looked at.
    """

    broken: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    views: int = 0

    def check(self, fine: bool, what: str) -> None:
        if not fine:
            self.broken.append(what)
            sys.stderr.write(f"broken: {what}\n")


def chromium() -> str | None:
    """Chromium, from the system's packages if need be."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(module: str, port: int, environment: Mapping[str, str], log: Path, health: str) -> Iterator[None]:
    """A server of the project, from its answer to its end."""
    with log.open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", module, "--port", str(port), "--env", "test"],
            cwd=PROJECT, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{health}", trust_env=False).is_success:
                    break
            except httpx.HTTPError:
                pass
            if child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{module} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def visitor(browser: Browser, found: Found, scheme: str = "light", width: int = 1280) -> Iterator[Page]:
    """A fresh visitor; whatever is fetched from another machine, and every error of a script, is told."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000},
        color_scheme=scheme,
        accept_downloads=True,  # type: ignore[arg-type]
    )
    page = context.new_page()

    def local(url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme not in ("http", "https", "ws", "wss") or parts.hostname in ("127.0.0.1", "localhost")

    page.on("request", lambda request: found.check(local(request.url), f"{request.url} was asked for"))
    page.on("pageerror", lambda error: found.check(False, f"a script failed on {page.url}: {error}"))
    yield page
    context.close()


def settled(page: Page, seconds: float = 90.0) -> float:
    """Wait until a page stays as it is; when it began to."""
    begin, last, since = time.monotonic(), 0.0, time.monotonic()
    while time.monotonic() - begin < seconds:
        page.wait_for_timeout(60)
        height = float(page.evaluate(QUIET))
        if not height or height != last:
            last, since = height, time.monotonic()
        elif time.monotonic() - since > 0.9:
            return since
    raise TimeoutError(f"{page.url} does not settle within {seconds} s")


def look_at(page: Page, address: str, path: str, found: Found, where: str, *, timed: bool = False) -> None:
    """Open a page and hold it against what every page has to be."""
    begin = time.monotonic()
    page.goto(f"{address}/{path}")
    page.get_by_role("heading", level=1, name=PAGES[path]).wait_for(timeout=90_000)
    first = time.monotonic() - begin
    whole = settled(page) - begin
    if timed:
        found.first.append(first)
        found.whole.append(whole)
    hold(page, found, f"{PAGES[path]}, {where}")


def hold(page: Page, found: Found, where: str) -> None:
    """What every view has to be: without a traceback, no wider than the screen, without an error of the storage."""
    found.views += 1
    found.check(page.get_by_test_id("stException").count() == 0, f"{where}: an exception is shown")
    for text in page.get_by_test_id("stAlertContentError").all_inner_texts():
        found.check(False, f"{where}: {text}")
    wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth - innerWidth")
    found.check(wide <= 0, f"{where}: {wide} pixels wider than the screen")


def picture(page: Page, folder: Path | None, name: str) -> None:
    """The whole page as a picture."""
    if folder is None:
        return
    size = page.viewport_size or {"width": 1280, "height": 1000}
    tall = int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")) + 10
    page.set_viewport_size({"width": size["width"], "height": min(max(tall, 700), 5000)})
    settled(page)
    page.screenshot(path=str(folder / f"{name}.png"))
    page.set_viewport_size(size)  # type: ignore[arg-type]


def every_page(browser: Browser, address: str, found: Found, folder: Path | None) -> None:
    """All pages with all their tabs, in light, in dark, and on a phone."""
    for scheme, width in LOOKS:
        with visitor(browser, found, scheme, width) as page:
            for path in PAGES:
                where = f"{scheme}, {width} px"
                look_at(page, address, path, found, where, timed=True)
                name = f"{path or 'overview'}_{width}_{scheme}"
                picture(page, folder, name)
                for number in range(1, page.get_by_role("tab").count()):
                    tab = page.get_by_role("tab").nth(number)
                    if not tab.is_visible():
                        continue
                    tab.click()
                    settled(page)
                    hold(page, found, f"{PAGES[path]}, tab {tab.inner_text()}, {where}")
                    if width == 1280:
                        picture(page, folder, f"{name}_{number}")
                if path not in ("run", "artifacts"):
                    charts = page.get_by_test_id("stPlotlyChart").count()
                    found.check(charts > 0, f"{PAGES[path]}, {where}: no figure")


def full_cycle(browser: Browser, address: str, api: str, token: str, found: Found, folder: Path | None) -> float:
    """Press Full twice in a row and watch the one run; seconds it took."""
    bearer = {"Authorization": f"Bearer {token}"}
    begin = time.monotonic()
    with visitor(browser, found) as page:
        look_at(page, address, "run", found, "before the cycle")
        button = page.get_by_role("button", name="Full cycle")
        button.click()
        button.click()
        page.get_by_test_id("stProgress").first.wait_for(timeout=60_000)
        page.get_by_text("steps").first.wait_for(timeout=120_000)
        picture(page, folder, "run_at_work") if folder else None
        page.get_by_text("Nothing runs and nothing waits.").wait_for(timeout=CYCLE_SECONDS * 1000)
        took = time.monotonic() - begin
        settled(page)
        hold(page, found, "Run, after the cycle")
    runs: list[dict[str, Any]] = httpx.get(f"{api}/runs", headers=bearer, trust_env=False).json()["runs"]
    found.check(len(runs) == 1, f"two clicks made {len(runs)} runs")
    found.check(
        runs[0]["state"] in ("finished", "refused"), f"the cycle ended as {runs[0]['state']}: {runs[0]['error']}"
    )
    return took


def download(browser: Browser, address: str, root: Path, found: Found) -> int:
    """Take the orders away; they are the stored bytes."""
    with visitor(browser, found) as page:
        look_at(page, address, "artifacts", found, "to download")
        with page.expect_download(timeout=30_000) as taken:
            page.get_by_role("button", name="Latest orders").click()
        data = Path(taken.value.path()).read_bytes()
    stored = (root / "portfolio" / "latest_orders.json").read_bytes()
    found.check(data == stored, "the orders taken away are not those that are stored")
    found.check(taken.value.suggested_filename == "latest_orders.json", taken.value.suggested_filename)
    return len(data)


def behind_a_password(browser: Browser, port: int, found: Found) -> None:
    """Every address asks for the password first, also before anybody has come in."""
    address = f"http://127.0.0.1:{port}"
    for path in ("run", "live", ""):
        with visitor(browser, found) as page:
            page.goto(f"{address}/{path}")
            page.get_by_label("Password of the dashboard").wait_for(timeout=60_000)
            settled(page)
            found.check(page.get_by_role("button", name="Full cycle").count() == 0, f"/{path} is open to everybody")
            found.check(page.get_by_test_id("stSidebarNav").count() == 0, f"/{path} shows the pages to everybody")
    with visitor(browser, found) as page:
        page.goto(f"{address}/run")
        page.get_by_label("Password of the dashboard").fill(PASSWORD)
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("heading", level=1, name="Run").wait_for(timeout=60_000)


def refused_without_a_password() -> bool:
    """Whether the dashboard refuses to listen beyond loopback without one."""
    environment = {name: value for name, value in os.environ.items() if name != "MNTRADING_DASHBOARD_PASSWORD"}
    command = [sys.executable, "-m", "mntrading.apps.dashboard", "--host", "0.0.0.0", "--port", str(free_port())]  # noqa: S104
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, timeout=120, check=False)
    return done.returncode != 0 and b"MNTRADING_DASHBOARD_PASSWORD" in done.stderr


def main() -> int:
    """Everything, and one line of what was seen."""
    path = chromium()
    if path is None:
        required = os.environ.get("MNTRADING_REQUIRE_SERVICES") == "1"
        sys.stderr.write("test-browser: there is no Chromium and none can be installed: apt-get install chromium\n")
        return 1 if required else 0
    named = os.environ.get("MNTRADING_SCREENSHOTS")
    folder = Path(named) if named else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found, token = Found(), secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        api_port, port, closed_port = free_port(), free_port(), free_port()
        environment = {
            "MNTRADING_STORAGE_ROOT": str(root), "MNTRADING_API_TOKEN": token, "DO_NOT_TRACK": "1",
            "MNTRADING_API_URL": f"http://127.0.0.1:{api_port}", "MLFLOW_TRACKING_URI": "",
            "MNTRADING_DASHBOARD_PASSWORD": "", "MNTRADING_API_STATE": str(Path(scratch) / "queue"),
        }  # fmt: skip
        address, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
        log, healthy = Path(scratch) / "log.txt", "/_stcore/health"
        with (
            sync_playwright() as playwright,
            process("mntrading.apps.dashboard", port, environment, log, healthy),
        ):
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
            with process("mntrading.apps.api", api_port, environment, log, "/health"):
                with visitor(browser, found) as page:
                    for one in PAGES:
                        look_at(page, address, one, found, "empty")
                took = full_cycle(browser, address, api, token, found, folder)
                every_page(browser, address, found, folder)
                taken = download(browser, address, root, found)
            with visitor(browser, found) as page:
                look_at(page, address, "", found, "the API gone")
                found.check(page.get_by_text("can't be reached").count() > 0, "a dead API is not named")
            guarded = {**environment, "MNTRADING_DASHBOARD_PASSWORD": PASSWORD}
            with process("mntrading.apps.dashboard", closed_port, guarded, log, healthy):
                behind_a_password(browser, closed_port, found)
            browser.close()
            said = log.read_text(errors="replace")
        found.check("Traceback" not in said, f"a traceback in the log: {said[said.find('Traceback') :][:1500]}")
        found.check(token not in said, "the token is in the log")
    found.check(refused_without_a_password(), "it would listen beyond loopback without a password")
    first, whole = (np.percentile(times, [50, 95]) for times in (found.first, found.whole))
    sys.stdout.write(
        f"test-browser: {len(found.broken)} broken of {found.views} views; full cycle by its button {took:.0f} s, "
        f"one run of two clicks; first paint {first[0]:.2f} s, p95 {first[1]:.2f} s; whole page {whole[0]:.2f} s, "
        f"p95 {whole[1]:.2f} s; {taken:,} bytes of orders taken away as stored\n"
    )
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
