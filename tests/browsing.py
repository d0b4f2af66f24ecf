"""Headless Chromium, where there is one, for the tests and benchmarks of reports."""

import os
import shutil
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser():
    """(browser, driver) as paths; a ValueError says what is missing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        raise ValueError("selenium is not installed") from None
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None or not os.path.exists(browser):
        raise ValueError(f"there is no browser: none of {', '.join(NAMES)}, nor does CHROMIUM name one")
    driver = shutil.which("chromedriver")
    if driver is None:
        raise ValueError("there is no chromedriver")
    return browser, driver


@contextmanager
def chromium(width=1200, height=900):
    """A driver of headless Chromium, which records what the page logs and asks of the network."""
    from selenium import webdriver

    browser, driver_path = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--force-prefers-reduced-motion",  # a click on what is still scrolling would miss it
    ):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


def open_report(driver, path):
    """Open a report by its file, and wait until its explorer is there."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(path.resolve().as_uri())
    ready = "return document.documentElement.dataset.ready === 'true'"
    WebDriverWait(driver, 60).until(lambda driver: driver.execute_script(ready))
