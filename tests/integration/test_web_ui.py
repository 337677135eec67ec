"""The server's own web UI at the sidecar's address, in a real browser: our engine is a mount like any other there.

Only OpenBao: the Vault that is built from its module has no web UI inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from tests.realparts.chromium import sign_in
from tests.sidecar_stack import MOUNT, OPERATOR, SidecarStack

SHOWN_SECONDS = 40
CONSOLE = ".console-ui-panel input"
OPERATIONS = {
    ("GET", f"/{MOUNT}/config"),
    ("POST", f"/{MOUNT}/config"),
    ("GET", f"/{MOUNT}/creds/{{name}}"),
    ("POST", f"/{MOUNT}/creds/{{name}}"),
    ("GET", f"/{MOUNT}/roles/{{name}}"),
    ("POST", f"/{MOUNT}/roles/{{name}}"),
    ("DELETE", f"/{MOUNT}/roles/{{name}}"),
}

Shown = TypeVar("Shown")


class Page:
    """The browser, signed in as an operator; every look waits, because the UI draws its pages as answers come in."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.address = address
        self._wait = WebDriverWait(browser, SHOWN_SECONDS, ignored_exceptions=[WebDriverException])

    def open(self, path: str) -> None:
        self.browser.get(f"{self.address}/ui/vault/{path}")

    def until(self, look: Callable[[], Shown], what: str) -> Shown:
        return self._wait.until(
            lambda _browser: look(), f"the page never showed {what}: {self.text()[:2000]}"
        )

    def text(self) -> str:
        try:
            return self.browser.find_element(By.CSS_SELECTOR, "main").text
        except WebDriverException:
            return ""

    def shows(self, text: str) -> None:
        self.until(lambda: text in self.text(), repr(text))

    def link(self, text: str) -> None:
        """Click the row of a list that says `text`."""
        rows = f'//main//a[contains(@class, "list-item-row")][normalize-space()="{text}"]'

        def click() -> bool:
            self.browser.find_element(By.XPATH, rows).click()
            return True

        self.until(click, f"a row {text!r}")

    def button(self, text: str) -> None:
        def click() -> bool:
            self.browser.find_element(By.XPATH, f'//button[normalize-space()="{text}"]').click()
            return True

        self.until(click, f"a button {text!r}")

    def type(self, command: str) -> str:
        """Run a command in the console and return what it said."""
        if not self.browser.find_elements(By.CSS_SELECTOR, ".panel-open .console-ui-panel, .panel-open"):
            self.until(self._open_console, "the console's button")
        before = len(self._said())
        field: WebElement = self.until(
            lambda: self.browser.find_element(By.CSS_SELECTOR, CONSOLE), "the console"
        )
        field.send_keys(command, Keys.ENTER)
        # The command itself is repeated first.
        self.until(lambda: len(self._said()[before:].strip().splitlines()) > 1, f"an answer to {command!r}")
        return self._said()[before:]

    def _open_console(self) -> bool:
        self.browser.find_element(By.CSS_SELECTOR, "button[title=Console]").click()
        return bool(self.browser.find_elements(By.CSS_SELECTOR, CONSOLE))

    def _said(self) -> str:
        found = self.browser.find_elements(By.CSS_SELECTOR, ".console-ui-panel-content")
        return found[0].text if found else ""


@pytest.fixture(scope="module")
def page(chromium: webdriver.Chrome, openbao_stack: SidecarStack) -> Page:
    sign_in(chromium, openbao_stack.address, openbao_stack.token(OPERATOR, ttl="1h").token)
    return Page(chromium, openbao_stack.address)


def test_our_mount_is_in_the_list_of_secrets_engines(page: Page) -> None:
    page.open("secrets")
    page.shows(f"{MOUNT}/")
    page.shows("AI keys by aikeys dev")
    page.shows("secret/")
    # It is not taken for the kv store whose shadow it is: the UI would offer to browse it.
    assert not page.browser.find_elements(By.XPATH, f'//main//a[contains(., "{MOUNT}/")]')
    assert page.browser.find_elements(By.XPATH, '//main//a[contains(., "secret/")]')


def test_a_key_is_read_in_the_browsers_console(page: Page, openbao_stack: SidecarStack) -> None:
    page.open("secrets")
    page.shows(f"{MOUNT}/")
    said = page.type(f"read {MOUNT}/creds/demo")
    found = re.search(r"^api_key\s+(\S+)", said, re.MULTILINE)
    assert found, said
    assert openbao_stack.works(found[1])
    assert "demo" in page.type(f"list {MOUNT}/roles")
    assert re.search(r"max_ttl\s+180", page.type(f"read {MOUNT}/roles/demo"))
    with openbao_stack.nothing_minted():
        assert "unknown role: nope" in page.type(f"read {MOUNT}/creds/nope")


def test_our_leases_are_listed_renewed_and_revoked(page: Page, openbao_stack: SidecarStack) -> None:
    secret = openbao_stack.read_key()
    name = secret["lease_id"].rpartition("/")[2]
    page.open("access/leases/list/")
    for row in (MOUNT, "creds", "demo"):
        page.link(f"{row}/")
    page.link(name)
    page.shows("Issue time")
    assert re.search(r"Renewable\s+Yes", page.text())

    page.button("Renew lease")
    page.until(
        lambda: openbao_stack.hvac().sys.read_lease(secret["lease_id"])["data"]["last_renewal"], "a renewal"
    )
    assert openbao_stack.works(secret["data"]["api_key"])

    page.button("Revoke lease")
    page.button("Confirm")
    openbao_stack.dies(secret["data"]["api_key"], seconds=SHOWN_SECONDS)
    page.until(lambda: "/access/leases/list" in page.browser.current_url, "the list of leases again")
    page.until(
        lambda: (
            not page.browser.find_elements(
                By.XPATH, f'//main//a[contains(@class, "list-item-row")][contains(., "{name}")]'
            )
        ),
        "the list without it",
    )


def test_our_paths_are_in_the_api_explorer(page: Page) -> None:
    page.open("api-explorer")

    def offered() -> set[tuple[str, str]]:
        blocks = page.browser.find_elements(By.CSS_SELECTOR, f'[id^="operations-secrets-{MOUNT}"]')
        return {
            (
                block.find_element(By.CSS_SELECTOR, ".opblock-summary-method").text,
                block.find_element(By.CSS_SELECTOR, ".opblock-summary-path").get_attribute("data-path") or "",
            )
            for block in blocks
        }

    found = page.until(offered, "an operation of ours")
    assert found >= OPERATIONS
    # The shadow's own paths are not ours to show.
    assert not {path for _method, path in found if path.startswith(f"/{MOUNT}/{{path}}")}
