"""A page of a network that compiles in no time, and a real browser that opens it."""

import shutil
import socket

import jax
import jax.numpy as jnp
import pytest

from amlr_jax.app import __main__ as app
from amlr_jax.models import pretrained
from tests.predict.test_images_to_depth import Quick

# No GPU, and no request of the browser itself.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint in name only."""
    network = Quick()
    image = jnp.zeros((1, 8, 8, 3))
    variables = network.init(jax.random.key(0), image, train=False)
    with pytest.MonkeyPatch.context() as patch:
        made = (network, variables, 80.0)
        patch.setattr(pretrained, "load_network", lambda _: made)
        yield tmp_path_factory.mktemp("app") / "weights"


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory):
    """Where the page is served."""
    pytest.importorskip("gradio", reason="pip install 'amlr_jax[app]'")
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
            patch.setenv(name, "")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = app.start(weights, folder, port=port)
        yield server.local_url
        server.close()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()
