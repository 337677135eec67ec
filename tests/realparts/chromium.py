"""Debian's Chromium without a window, driven by selenium through Debian's own driver: nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait
from tests.realparts.process import POLL_SECONDS, clean_environment, processes_of_session
from tests.realparts.requirements import missing
from urllib3.exceptions import HTTPError

FLAGS = (
    "--headless=new",
    "--window-size=1400,1000",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--password-store=basic",
    # It talks to the pages under test and to nobody else: not for updates, not for suggestions, not by name.
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PAGE_SECONDS = 60
SIGN_IN_SECONDS = 30
GOES_BY_ITSELF_SECONDS = 3.0
KILLED_WITHIN_SECONDS = 10.0


def find_programs() -> tuple[Path, Path]:
    """Chromium and its driver; raises :class:`~tests.realparts.requirements.PartMissing` without both."""
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    browser, driver = found
    if browser is None or driver is None:
        missing("chromium", "chromium and chromedriver are not both on the PATH")
    return Path(browser), Path(driver)


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile of its own in ``folder``; it and all its processes are gone at the end."""
    browser, driver = find_programs()
    profile = folder / "profile"
    profile.mkdir(parents=True)
    options = Options()
    options.binary_location = str(browser)
    for flag in FLAGS:
        options.add_argument(flag)
    if os.geteuid() == 0:
        # Chromium's sandbox refuses root.
        options.add_argument("--no-sandbox")
    options.add_argument(f"--user-data-dir={profile}")
    service = Service(
        executable_path=str(driver),
        log_output=str(folder / "chromedriver.log"),
        env=clean_environment(HOME=str(folder)),
        popen_kw={"start_new_session": True},
    )
    started: webdriver.Chrome | None = None
    try:
        started = webdriver.Chrome(options=options, service=service)
        started.set_page_load_timeout(PAGE_SECONDS)
        yield started
    finally:
        session = service.process.pid if hasattr(service, "process") else None
        if started is not None:
            with suppress(WebDriverException, HTTPError):
                started.quit()
        service.stop()
        _end_all(folder, session)


def browser_processes(folder: Path, session: int | None) -> list[int]:
    """Every process of the browser in ``folder`` whose driver is (or was) process ``session``.

    Most are of the driver's session. The crash handlers begin sessions of their own, and are known by the home folder
    that this browser alone was given.
    """
    found = set() if session is None else set(processes_of_session(session))
    home = f"HOME={folder}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if home in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return sorted(found)


def _end_all(folder: Path, session: int | None) -> None:
    """Give all its processes a moment to go by themselves, then end what is left: a crashed driver leaves everything."""
    end = time.monotonic() + GOES_BY_ITSELF_SECONDS
    killed = False
    while left := browser_processes(folder, session):
        if time.monotonic() > end:
            if killed:
                raise RuntimeError(f"processes of the browser survived SIGKILL: {left}")
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed = True
            end = time.monotonic() + KILLED_WITHIN_SECONDS
        time.sleep(POLL_SECONDS)


def sign_in(browser: webdriver.Chrome, address: str, token: str) -> None:
    """Sign in to the web UI that ``address`` serves, as a person would; its first page is there when this returns."""
    # The form is drawn a second time when the methods to sign in with are known: an element of the first is stale then.
    wait = WebDriverWait(browser, SIGN_IN_SECONDS, ignored_exceptions=[WebDriverException])
    browser.get(f"{address}/ui/vault/auth?with=token")

    def fill_in(page: webdriver.Chrome) -> bool:
        field = page.find_element("css selector", "input[name=token]")
        field.clear()
        field.send_keys(token)
        page.find_element("css selector", "button[type=submit]").click()
        return True

    wait.until(fill_in)
    wait.until(lambda page: "/ui/vault/auth" not in page.current_url)
