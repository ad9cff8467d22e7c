"""Opens a report in a real browser, uses it, and takes pictures of it.

    pip install playwright
    python -m tests.benchmarks.report_in_browser report.html --pictures=DIR \
        [--browser=/usr/bin/chromium]

Checks on a desk, in the dark and on a phone: no error, no request besides the file, no
sideways scrolling; curves change their axis; the slider moves; depth and distance are
shown; the points turn and zoom.
"""

import argparse
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

SCREENS = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
    },
}


def main() -> None:
    """All screens, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--browser", help="Chromium, if playwright has none of its own")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.browser, args=["--no-sandbox"]
        )
        for name, settings in SCREENS.items():
            page = browser.new_context(**settings, offline=True).new_page()
            check(page, options.report.resolve().as_uri(), name)
            page.screenshot(path=options.pictures / f"{name}.png", full_page=True)
            print(f"{name}: good")
        browser.close()


def check(page: Page, address: str, name: str) -> None:
    """Uses one page; AssertionError for what does not work."""
    wrong, requests = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_timeout(300)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"], f"{name}: {wide} pixels wide"
    if page.locator(".chart").count():
        check_curves(page)
    if page.locator(".frame").count():
        check_slider(page)
        check_depth(page)
        check_points(page)
    assert not wrong, f"{name}: {wrong}"
    asked = [url for url in requests if not url.startswith("data:")]
    assert asked == [address], f"{name}: asks for {asked}"


def check_curves(page: Page) -> None:
    chart = page.locator(".chart").first
    linear, log = chart.locator("svg.linear"), chart.locator("svg.log")
    choice = chart.locator("input")
    for checked in (True, False):
        choice.set_checked(checked)
        assert (linear.is_visible(), log.is_visible()) == (not checked, checked)


def check_slider(page: Page) -> None:
    stage = page.locator(".image .stage").first
    slider = page.locator(".compare input").first
    seen = []
    for value in ("10", "90"):
        slider.fill(value)
        seen.append(stage.screenshot())
    assert seen[0] != seen[1]
    page.locator(".compare select").first.select_option(index=0)
    slider.fill("10")
    assert stage.screenshot() != seen[0]
    slider.fill("50")


def check_depth(page: Page) -> None:
    frame = page.locator(".frame").first
    box = frame.locator(".image .stage").bounding_box()
    for part in (0.3, 0.6):
        x, y = box["x"] + part * box["width"], box["y"] + part * box["height"]
        page.mouse.click(x, y)
        assert frame.locator(".mark").count() % frame.locator(".stage").count() == 0
    said = frame.locator(".reading").inner_text()
    assert " m apart (camera" in said and said.startswith("Pixel ("), said


def check_points(page: Page) -> None:
    canvas = page.locator("#points canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box, first = canvas.bounding_box(), canvas.screenshot()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 30, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    turned = canvas.screenshot()
    assert turned != first, "dragging does not turn"
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("+")
    page.wait_for_timeout(200)
    assert canvas.screenshot() != turned, "+ does not zoom"
    page.locator("#points button").click()
    page.wait_for_timeout(200)
    assert canvas.screenshot() == first, "the view does not reset"


if __name__ == "__main__":
    main()
