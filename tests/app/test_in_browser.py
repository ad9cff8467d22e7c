"""The page in headless Chromium, with a network that compiles in no time."""

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amlr_jax.predict import images_to_depth
from tests.predict import test_video

pytestmark = pytest.mark.slow
FILE = "input[type=file]"
FRAME = "kitti/raw_data/2011_09_26/2011_09_26_drive_0013_sync/image_02/data"
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}


def upload(name: str, image: Image.Image) -> dict:
    """A file of that name, as a browser takes it."""
    data = io.BytesIO()
    image.save(data, {"jpg": "JPEG", "png": "PNG"}[name[-3:]])
    return {"name": name, "mimeType": "image/*", "buffer": data.getvalue()}


class User:
    """One person's browser window on the page."""

    def __init__(self, browser, address: str, **screen) -> None:
        self.context = browser.new_context(**(screen or DESK))
        self.context.set_default_timeout(120_000)  # of a machine with much to do
        self.page = self.context.new_page()
        self.requests = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def give(self, file) -> None:
        self.page.set_input_files(f"#picture {FILE}", file)

    def view(self, name: str):
        """The depth of the file, once it is there."""
        view = self.page.frame_locator("#view iframe")
        view.locator("figcaption", has_text=name).wait_for()
        return view

    def download(self, name: str) -> bytes:
        """The bytes of a file that is offered."""
        with self.page.expect_download() as got:
            self.page.locator(f'a[download="{name}"]').click()
        return Path(got.value.path()).read_bytes()


@pytest.fixture
def user(browser, address):
    found = User(browser, address)
    yield found
    outside = [
        url
        for url in found.requests
        if not url.startswith((address, "data:", "blob:", "about:"))
    ]
    found.context.close()
    assert not outside, "these left the machine"


def reading(view) -> tuple[int, int, str]:
    text = view.locator(".reading").inner_text()
    column, row, depth = re.search(r"\((\d+), (\d+)\): (\S+) m", text).groups()
    return int(column), int(row), depth


def as_shown(metres: float) -> str:
    return f"{metres:.3f}" if metres < 10 else f"{metres:.2f}"


def test_a_real_frame(user, weights, real_data, tmp_path):
    frame = sorted((real_data / FRAME).glob("*.png"))[0]
    user.give(frame)
    view = user.view(frame.name)
    options = images_to_depth.Options()
    images_to_depth.run(weights, frame, tmp_path / "own", options)
    for ending in ("depth.png", "depth.npy", "color.png"):
        name = f"{frame.stem}_{ending}"
        assert user.download(name) == (tmp_path / "own" / name).read_bytes()
    depth = np.load(tmp_path / "own" / f"{frame.stem}_depth.npy")

    stage = view.locator(".image .stage")
    stage.scroll_into_view_if_needed()
    box, seen = stage.bounding_box(), []
    for x, y in ((0.3, 0.8), (0.7, 0.6)):
        user.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        column, row, shown = reading(view)
        assert abs(column - x * depth.shape[1]) < 3 and abs(row - y * 375) < 3
        assert shown == as_shown(depth[row, column])
        seen.append((column, row))
    height, width = depth.shape
    focal = width / 2 / math.tan(math.radians(30))
    ends = [
        depth[v, u]
        * np.array([(u - (width - 1) / 2) / focal, (v - (height - 1) / 2) / focal, 1])
        for u, v in seen
    ]
    apart = as_shown(np.linalg.norm(np.subtract(*ends)))
    assert f"{apart} m apart (camera not known: 60 degrees" in (
        view.locator(".reading").inner_text()
    )
    shots = []
    for value in ("10", "90"):
        view.locator(".compare input").fill(value)
        shots.append(stage.screenshot())
    assert shots[0] != shots[1]
    canvas = view.locator("#points canvas")
    before = canvas.screenshot()
    canvas.press("ArrowLeft")
    user.page.wait_for_timeout(100)
    assert canvas.screenshot() != before


def test_the_camera_gives_a_ply_and_augmentation_other_depth(user, tmp_path, weights):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    user.give(tmp_path / "a.png")
    user.view("a.png")
    user.page.get_by_text("Camera", exact=True).click()
    field = user.page.get_by_label("Or horizontal field of view, degrees")
    field.fill("65")
    field.press("Enter")
    user.page.locator('a[download="a_points.ply"]').wait_for()
    view = user.view("a.png")
    view.locator(".image .stage").click()  # which leaves the field
    user.page.wait_for_timeout(500)
    assert view.locator(".image .mark").count() == 1
    user.page.get_by_label("flip").check()
    options = images_to_depth.Options(save=("npy", "ply"), fov=65.0, flip=True)
    images_to_depth.run(weights, tmp_path / "a.png", tmp_path / "own", options)
    for name in ("a_depth.npy", "a_points.ply"):
        own = (tmp_path / "own" / name).read_bytes()
        for _ in range(50):  # until the page has the new depth
            if user.download(name) == own:
                break
            user.page.wait_for_timeout(100)
        else:
            raise AssertionError(name)


def test_twelve_megapixels_on_a_phone(browser, address):
    phone = User(browser, address, **PHONE)
    x, y = np.meshgrid(np.linspace(0, 255, 4000), np.linspace(0, 255, 3000))
    pixels = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    phone.give(upload("large.jpg", Image.fromarray(pixels)))
    view = phone.view("large.jpg")
    text = view.locator("figcaption").inner_text()
    assert "1673 x 1254 pixels, made smaller from 4000 x 3000" in text
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    phone.context.close()


def test_a_bad_file_is_one_line(user):
    text = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"}
    user.give(text)
    problem = user.page.locator("#view [role=alert]")
    problem.wait_for()
    assert problem.inner_text() == (
        "image 'notes.png' is damaged or no image of a known format"
    )


def test_two_users_at_once(browser, address, user):
    users, colours = [user, User(browser, address)], ("black", "white")
    for one, colour in zip(users, colours, strict=True):
        data = io.BytesIO()
        Image.new("RGB", (96, 64), colour).save(data, "PNG")
        one.give(
            {
                "name": f"{colour}.png",
                "mimeType": "image/png",
                "buffer": data.getvalue(),
            }
        )
    depths = []
    for one, colour in zip(users, colours, strict=True):
        one.view(f"{colour}.png")
        depths.append(np.load(io.BytesIO(one.download(f"{colour}_depth.npy"))))
    assert not np.allclose(*depths)
    users[1].context.close()


def test_a_video_and_the_card(user, tmp_path):
    page = user.page
    page.get_by_role("tab", name="Video").click()
    path = test_video.write(tmp_path / "a.mp4", frames=4)
    page.set_input_files(f"#video {FILE}", path)
    page.locator("#video").get_by_text(".mp4", exact=True).wait_for()  # stem apart
    page.get_by_role("button", name="Predict the video").click()
    page.locator("#film video").wait_for()
    page.get_by_role("tab", name="Model").click()
    page.get_by_text("Depth: up to 80 m").wait_for()
