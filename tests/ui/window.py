"""The windows of the browser: each test gets one as a visitor opens it, made as new from what earlier tests have left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urljoin

from playwright.sync_api import Browser, BrowserContext, Page, expect

WAIT = 40_000
HOME = "zh-CN"
DESK = {"width": 1280, "height": 800}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

# Whether only the consultation was looked at, and if so a new one is begun as a visitor begins it and nothing is kept.
AFRESH = """async () => {
  if (!window.bianque) return false;
  const found = name => document.querySelector(name), changed = Object.entries(bianque.prefs).some(([name, value]) => value && name !== 'mode');
  if (changed || found('#bq-all, #bq-both, #bq-panel input, dialog')) return false;
  const before = bianque.current(), until = Date.now() + 8000, busy = '.bq-pending, #bq-chat .message-row, #bq-box .stop-button, .bq-talking';
  found('#bq-consult-tab-button').click();
  found('#bq-menu [data-do=new]').click();
  while (bianque.current() === before || found(busy) || !found('#bq-box textarea') || found('#bq-box textarea').value) {
    if (Date.now() > until) return false;
    await new Promise(done => setTimeout(done, 20));
  }
  for (const one of bianque.list()) bianque.drop(one.id);
  if (!found('#bq-mode input').checked) found('#bq-mode input').click();
  found('#bq-toast')?.remove();
  return true;
}"""


@dataclass(frozen=True)
class Look:
    """What a page is read with: for another it has to be read again."""

    url: str
    locale: str
    size: tuple[int, int]
    motion: str


@dataclass
class Window:
    """A window with its own storage. It outlives its test: a page that it has read before costs half."""

    context: BrowserContext
    device: dict
    test: str = ""
    look: Look | None = None
    page: Page | None = None  # the tab that the test was given

    def open(self, look: Look, permissions: list[str]) -> Page:
        """The address, as if for the first time."""
        kept = self.page if self.page and not self.page.is_closed() and not self.page.scripted else None
        for page in self.context.pages:
            if page is not kept:
                page.close()
        self.page = page = kept or self.tab()
        self.context.clear_permissions()
        self.context.grant_permissions(permissions)
        tidied(page, look)
        if not (kept and look == self.look and page.evaluate(AFRESH)):
            self.load(page, look)
        self.look = look
        return page

    def tab(self) -> Page:
        """A tab that notes every request and every error of its pages."""
        page = self.context.new_page()
        page.requests, page.errors, page.scripted = [], [], False
        page.link = self.context.new_cdp_session(page)
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda told: told.type == "error" and page.errors.append(told.text))
        return page

    def load(self, page: Page, look: Look) -> None:
        page.goto(urljoin(look.url, "/healthz"))  # of the same origin, and keeps nothing itself
        page.evaluate("sessionStorage.clear()")
        page.link.send("Storage.clearDataForOrigin", {"origin": page.evaluate("origin"), "storageTypes": "all"})
        self.context.clear_cookies()
        foreign = "" if look.locale == HOME else look.locale
        agent = page.evaluate("navigator.userAgent") if foreign else ""
        page.link.send("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": foreign})
        page.link.send("Emulation.setLocaleOverride", {"locale": foreign})
        page.requests.clear()
        page.errors.clear()
        loaded(page, look.url)


def visit(chromium: Browser, url: str, **options) -> Page:
    """A visitor's own window, which notes every request and every error of the page.

    It is one that an earlier test has left, where there is one of the same device; not for a `first` visit, for which the
    browser has read nothing of the page.
    """
    test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    size, locale = options.pop("viewport", DESK), options.pop("locale", HOME)
    motion, permissions = options.pop("reduced_motion", "no-preference"), options.pop("permissions", [])
    first, windows = options.pop("first", False), vars(chromium).setdefault("windows", [])
    left = [] if first else [window for window in windows if window.test != test and window.device == options]
    for spare in left[1:]:
        spare.context.close()
        windows.remove(spare)
    window = left[0] if left else new_window(chromium, options)
    window.test = test
    return window.open(Look(url, locale, (size["width"], size["height"]), motion), permissions)


def rest(browser: Browser) -> None:
    """Between two files of tests nothing goes on in the browser, and only the windows of `visit` stay."""
    windows = vars(browser).setdefault("windows", [])
    for context in browser.contexts:
        if all(window.context is not context for window in windows):
            context.close()
    for window in windows:
        window.look = None
        for page in window.context.pages:
            page.goto("about:blank")


def new_window(chromium: Browser, device: dict) -> Window:
    context = chromium.new_context(viewport=DESK, **device)
    context.set_default_timeout(WAIT)
    window = Window(context, device)
    vars(chromium)["windows"].append(window)
    return window


def tidied(page: Page, look: Look) -> None:
    """What a test may have changed behind the page's back."""
    page.requests.clear()
    page.errors.clear()
    page.unroute_all()
    page.emulate_media(media="null", color_scheme="light", reduced_motion=look.motion)
    width, height = look.size
    page.set_viewport_size({"width": width, "height": height})


def loaded(page: Page, url: str) -> None:
    page.goto(url)
    # A link may open another tab than the first, before anybody has seen that one.
    page.locator("html.bq-ready").wait_for(state="attached", timeout=WAIT)
    page.locator(":is(#bq-box, #bq-all) textarea:visible").first.wait_for(timeout=WAIT)
    expect(page.locator("#bq-foot")).to_be_visible()
    page.locator("#bq-mode[role=radiogroup]").wait_for(state="attached", timeout=WAIT)  # our script has run
