"""The report in headless Chromium: no console errors, no requests, readable at any width."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from googlenet_deploy.report.html import write_html
from googlenet_deploy.report.results import Results


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    return found


class Visit:
    """One visit: what the console said, what was requested, and the picture."""

    def __init__(self, chromium: str, page: Path, folder: Path, width: int = 1280) -> None:
        folder.mkdir()
        picture, requests = folder / "page.png", folder / "net.json"
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={requests}", "--enable-logging=stderr"]
        command += [f"--window-size={width},2000", f"--screenshot={picture}", page.as_uri()]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert picture.is_file(), result.stderr
        self.console = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
        self.requested = sorted(url for url in _urls(requests) if not url.startswith(("chrome:", "data:", "file:")))
        with Image.open(picture) as image:
            self.picture = image.convert("RGB")


def _urls(log: Path) -> set[str]:
    """Addresses that the page asked for; what the browser itself asks for has no origin as its initiator."""
    found = set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        initiator = re.search(r'"initiator":"([^"]*)"', line)
        address = re.search(r'"url":"([^"]+)"', line)
        if address and initiator and initiator.group(1) != "not an origin":
            found.add(address.group(1))
    return found


def themed(path: Path, theme: str) -> Path:
    text = path.read_text(encoding="utf-8").replace('id="theme-auto" checked', 'id="theme-auto"')
    path.write_text(text.replace(f'id="theme-{theme}"', f'id="theme-{theme}" checked'), encoding="utf-8")
    return path


def test_the_test_would_notice(chromium: str, tmp_path: Path) -> None:
    """A page that asks for something and complains: both must be seen."""
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("broken")</script>')
    visit = Visit(chromium, page, tmp_path / "visit")
    assert any("broken" in line for line in visit.console)
    assert visit.requested == ["http://127.0.0.1:9/x.png"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_quiet_alone_and_coloured(chromium: str, full: Results, tmp_path: Path, theme: str, width: int) -> None:
    write_html(tmp_path / "report.html", full)
    visit = Visit(chromium, themed(tmp_path / "report.html", theme), tmp_path / "visit", width)
    assert visit.console == []
    assert visit.requested == []
    ground = sum(visit.picture.getpixel((3, visit.picture.height - 5))[:3]) / 3  # type: ignore[index,arg-type]
    assert (ground > 200) == (theme == "light")


def test_nothing_is_wider_than_a_phone(chromium: str, full: Results, tmp_path: Path) -> None:
    """The layout's width, read back through the page's title after a script in a copy of the page measured it."""
    write_html(tmp_path / "report.html", full)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = text.replace("default-src 'none'; style-src", "script-src 'unsafe-inline'; style-src")
    text = text.replace("</body>", "<script>document.title = document.documentElement.scrollWidth</script></body>")
    (tmp_path / "measured.html").write_text(text, encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=390,900", "--dump-dom", (tmp_path / "measured.html").as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    title = result.stdout.partition("<title>")[2].partition("</title>")[0]
    assert 0 < int(title) <= 500  # Chromium's own smallest window may be wider than 390


def test_it_prints(chromium: str, full: Results, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", full)
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--print-to-pdf={tmp_path / 'report.pdf'}", (tmp_path / "report.html").as_uri()]
    subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
