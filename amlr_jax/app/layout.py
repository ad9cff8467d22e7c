"""The page in gradio: an image or a video in, its depth out.

What belongs to one user is in `gr.State` of that user's page. gradio is imported only
where a page is built, because nothing else needs it.
"""

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

from amlr_jax.app.engine import AUGMENTATIONS, Answer, Engine, Look
from amlr_jax.data.video import VIDEOS
from amlr_jax.runtime.errors import InputError

QUEUE = 16  # requests that wait; more are refused
USERS = 32  # whose last image is kept, an hour at most
KEPT = 3600  # seconds
MOST_BYTES = "200mb"  # of an uploaded file
# Of everything: this server alone, whatever a library would like to load.
POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
STYLE = ".problem { color: #c0262d; font-weight: 600; padding: 12px; }"
ASSUMED = (
    "Distances and points need the camera. Without it 60 degrees across are assumed, "
    "and no PLY is made."
)


class Policy:
    """ASGI middleware: every answer carries POLICY."""

    def __init__(self, app: Callable) -> None:
        self._app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def sending(message: dict) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", POLICY)
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, sending)


def serve(engine: Engine, examples: list[Path], *, host: str, port: int) -> Any:
    """The running page, a `gradio.Blocks`."""
    import gradio
    from starlette.middleware import Middleware

    page = build(engine, examples)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        max_file_size=MOST_BYTES,
        state_session_capacity=USERS,
        footer_links=[],
        css=STYLE,
        theme=gradio.themes.Default(primary_hue="blue"),
        app_kwargs={"middleware": [Middleware(Policy)]},
    )
    return page


def build(engine: Engine, examples: list[Path]) -> Any:
    """The page, to be started by its `launch`."""
    import gradio as gr

    cleaning = (600, KEPT)
    with gr.Blocks(
        title=f"Depth of {engine.checkpoint.name}",
        analytics_enabled=False,
        delete_cache=cleaning,
    ) as page:
        gr.Markdown(f"# Depth by {engine.checkpoint.name}")
        with gr.Tab("Image"):
            _image_tab(gr, engine, examples)
        with gr.Tab("Video"):
            _video_tab(gr, engine)
        with gr.Tab("Model") as model:
            lines, report = engine.card()
            gr.Markdown("\n".join(f"- {line}" for line in lines))
            run = gr.HTML()
            model.select(lambda: _framed(report, title="The run"), None, run)
    return page.queue(max_size=QUEUE, default_concurrency_limit=1)


def _image_tab(gr: Any, engine: Engine, examples: list[Path]) -> None:
    answer = gr.State(None, time_to_live=KEPT)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            picture = gr.Image(
                label="Drop, paste or choose an image, or take one",
                sources=["upload", "clipboard", "webcam"],
                type="filepath",
                image_mode=None,
                height=260,
                webcam_options=gr.WebcamOptions(mirror=False),
                elem_id="picture",
            )
            # The file as it is, whatever it holds.
            picture.preprocess = lambda given: given and given.path
            augmentations = gr.CheckboxGroup(
                AUGMENTATIONS,
                label="Test-time augmentation",
                info="flip: mean with the mirror image; tile: mean of 16 squares",
            )
            look = _look(gr)
            if examples:
                gr.Examples([[str(path)] for path in examples], [picture])
        with gr.Column(scale=5, min_width=340):
            view = gr.HTML(elem_id="view")
            files = _downloads(gr)

    results = [answer, view, files]

    @_told(len(results))
    def show(found: Answer | None, *given: Any) -> tuple:
        if found is None:
            return None, "", None
        look = Look(*given)
        if found.look == look:  # a field was left as it was
            return (gr.skip(),) * len(results)
        text, made = engine.show(found, look)
        found = found._replace(look=look)
        return found, _framed(text, title="Depth"), [str(path) for path in made]

    @_told(len(results))
    def see(path: str | None, chosen: list[str], *given: Any) -> tuple:
        return show(path and engine.see(Path(path), chosen), *given)

    quiet = {"api_visibility": "private", "trigger_mode": "always_last"}
    given = [picture, augmentations, *look]
    gr.on([picture.change, augmentations.change], see, given, results, **quiet)
    changes = [event for field in look for event in (field.submit, field.blur)]
    gr.on(changes, show, [answer, *look], results, **quiet)


def _video_tab(gr: Any, engine: Engine) -> None:
    made = gr.State(None, time_to_live=KEPT)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            video = gr.File(
                label=f"A video of at most {engine.bounds.seconds:g} s",
                file_types=sorted(VIDEOS),
                elem_id="video",
            )
            start = gr.Button("Predict the video", variant="primary")
        with gr.Column(scale=5, min_width=340):
            problem = gr.HTML()
            film = gr.Video(label="Image and depth", elem_id="film")
            files = _downloads(gr)
    results, bar = [made, problem, film, files], gr.Progress()

    @_told(len(results))
    def predict(path: str | None, progress: Any = bar) -> tuple:
        if path is None:
            raise InputError("choose a video first")

        def report(done: int, total: int) -> None:
            progress((done, total), desc="Predicting", unit="frames")

        folder, paths = engine.film(Path(path), report)
        return folder, "", str(paths[-1]), [str(one) for one in paths]

    start.click(predict, video, results, api_visibility="private")


def _downloads(gr: Any) -> Any:
    return gr.File(label="Downloads", file_count="multiple", interactive=False)


def _look(gr: Any) -> list:
    """The fields of `Look`."""
    with gr.Accordion("Camera", open=False):
        gr.Markdown(ASSUMED)
        intrinsics = gr.Textbox("", label="Intrinsics: fx,fy,cx,cy in pixels")
        fov = gr.Number(None, label="Or horizontal field of view, degrees")
    with gr.Accordion("Colours", open=False):
        near = gr.Number(None, label="Nearest depth; empty: of the image")
        far = gr.Number(None, label="Farthest depth; empty: of the network")
    return [intrinsics, fov, near, far]


def _framed(text: str, *, title: str) -> str:
    """A page in the page, which keeps style and script of its own."""
    if not text:
        return ""
    style = "width:100%;height:80vh;border:0"
    return f'<iframe title="{title}" style="{style}" srcdoc="{escape(text)}"></iframe>'


def _told(results: int) -> Callable:
    """Of a function with so many results, the second of them text for the page.

    An InputError is one line there, without results; a given answer stays.
    """

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def guarded(first: Any, *rest: Any) -> tuple:
            try:
                return function(first, *rest)
            except InputError as error:
                line = str(error)
                if isinstance(first, str):  # users know the name of a file alone
                    line = line.replace(f"{Path(first).parent}/", "")
                text = f'<p role="alert" class="problem">{escape(line)}</p>'
                kept = first if isinstance(first, Answer) else None
                return kept, text, *[None] * (results - 2)

        return guarded

    return decorate
