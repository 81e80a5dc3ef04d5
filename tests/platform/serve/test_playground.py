"""The page at `/`: in a real browser where it is about what a person sees, by plain requests where not."""

import asyncio
import base64
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import serve_toys as toys
import uvicorn
from fastapi import FastAPI
from local_endpoint import LocalBackend
from pydantic import BaseModel, Field

import genloom
from genloom_platform.serve.app import create_app
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.model import served
from genloom_platform.serve.playground import answers, fields, hearing, snippets, uploads, wall
from genloom_platform.serve.playground.page import Maker
from genloom_platform.serve.playground.sessions import COOKIE, LASTS_S, MAX_SESSIONS, Sessions

KEY = "k" * 32
WORDS = ["once ", "upon ", "a <b>time</b> ${1+1}"]


class Streaming:
    """Real models, of which one writes its text in pieces."""

    def __init__(self, inner: Any, gate: threading.Event) -> None:
        self._inner, self._gate = inner, gate

    def models(self) -> Any:
        return self._inner.models()

    async def answer(self, model: str, prompts: Any) -> list[Any]:
        return await self._inner.answer(model, prompts)

    async def stream(self, model: str, prompt: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"model": str(model), "seed": 5, "prompt": {}, "pieces": WORDS[:1]}
        await asyncio.to_thread(self._gate.wait, 20)
        yield {"pieces": WORDS[1:]}


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """An app on a port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page and waits for its form; afterwards it has asked its own host alone."""
    pages, asked = [], set()

    def open_(url: str, **context: Any) -> Any:
        page = browser.new_page(**context)
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.add(urlsplit(request.url)))
        pages.append(page)
        page.goto(url)
        return page

    yield open_
    for page in pages:
        page.close()
    foreign = {url.geturl() for url in asked if url.scheme not in ("data", "blob")}
    assert {urlsplit(url).hostname for url in foreign} <= {"127.0.0.1"}


class Revocable:
    """A door whose key can be revoked."""

    def __init__(self) -> None:
        self.valid, self.asked = True, 0

    async def find(self, key: bytes) -> str | None:
        return "studio" if self.valid and key == KEY.encode() else None

    def knows(self, who: str) -> bool:
        return self.valid and who == "studio"

    def asking(self, who: str) -> Any:
        self.asked += 1
        return nullcontext()


@pytest.fixture(scope="module")
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture(scope="module")
def closed(local_backend) -> Iterator[tuple[str, Revocable, FastAPI]]:
    """An endpoint that asks for a key. Made first: the files of a process are those of its newest page."""
    door, backend = Revocable(), local_backend("drawer")
    app = FastAPI()
    wall.install(app, Maker(backend, Catalog(backend.models)), door)
    with running(app) as url:
        assert httpx.get(url, timeout=120).status_code == 200
        yield url, door, app


@pytest.fixture(scope="module")
def opened(local_backend, gate, closed) -> Iterator[str]:
    with running(create_app(Streaming(local_backend("drawer", "counter", "brightness"), gate))) as url:
        assert httpx.get(url, timeout=120).status_code == 200  # Gradio is loaded now
        yield url


@pytest.fixture(scope="module")
def sounding(local_backend, opened) -> Iterator[str]:
    """An endpoint of models that answer with sounds, scores and classes."""
    app = FastAPI()
    backend = local_backend("animals", "speaker", "composer")
    wall.install(app, Maker(backend, Catalog(backend.models)), None)
    with running(app) as url:
        assert httpx.get(url, timeout=120).status_code == 200
        yield url


@pytest.fixture(scope="module")
def local_backend() -> Any:
    return lambda *names: LocalBackend(*(served(getattr(toys, name)(), 1700000000) for name in names))


def ready(page: Any) -> Any:
    """A page whose form answers: the snippets are written when it does."""
    page.locator(".curl .cm-content").filter(visible=True).filter(has_text="curl http").wait_for()
    return page


def seen(page: Any, selector: str) -> Any:
    return page.locator(selector).filter(visible=True)


def curl_of(page: Any) -> str:
    return seen(page, ".curl .cm-content").inner_text()


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


@pytest.mark.browser
def test_pictures_are_generated_and_the_command_beside_them_makes_the_same(opened, open_page):
    page = ready(open_page(opened))
    assert page.get_by_role("heading", name="drawer").inner_text() == "drawer"
    assert seen(page, ".chip").first.inner_text() == "version 1"
    seen(page, "input,textarea").nth(0).wait_for()
    page.get_by_label("label").filter(visible=True).fill("3")
    page.get_by_label("seed").filter(visible=True).fill("41")
    page.get_by_role("spinbutton").filter(visible=True).fill("2")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "document.querySelector('.curl .cm-content').innerText.includes('\"seed\": 42')"
    )
    button(page, "Generate").filter(visible=True).click()
    seen(page, ".pictures img").nth(1).wait_for()
    assert page.get_by_text("seed 42").count()
    command = curl_of(page)
    answer = json.loads(subprocess.run(command, shell=True, capture_output=True, timeout=20).stdout)
    assert [each["seed"] for each in answer["samples"]] == [41, 42]
    assert [each["prompt"]["label"] for each in answer["samples"]] == [3, 3]
    drawn = genloom.Image.from_bytes(
        page.request.get(seen(page, ".pictures img").first.get_attribute("src")).body()
    )
    again = genloom.Image.from_json(answer["samples"][0]["sample"])
    np.testing.assert_array_equal(drawn.array[:, :, :1], again.array)


@pytest.mark.browser
def test_what_the_endpoint_refuses_is_told_at_the_form(opened, open_page):
    page = ready(open_page(opened))
    for label, words in (("55", "the model knows 10 classes; give 0 to 9"), ("<b>", "label")):
        page.get_by_label("label").filter(visible=True).fill(label)
        button(page, "Generate").filter(visible=True).click()
        page.locator(".error [role=alert]", has_text=words).wait_for()
        assert "Traceback" not in page.content()
        assert seen(page, ".error [role=alert] b").count() == 0
    page.get_by_role("spinbutton").filter(visible=True).fill("3")
    page.get_by_label("label").filter(visible=True).fill("55")
    page.locator(".curl .cm-content", has_text='55}, {"label": 55}, {').wait_for()
    button(page, "Generate").filter(visible=True).click()
    page.locator(".error [role=alert]", has_text="10 classes").wait_for()
    assert page.get_by_text("10 classes").count() == 1
    page.get_by_label("label").filter(visible=True).fill("7")
    button(page, "Generate").filter(visible=True).click()
    page.locator(".error [role=alert]", has_text="failure").wait_for()
    assert "secret inside" not in page.content()


@pytest.mark.browser
def test_a_text_is_shown_while_it_is_written(opened, open_page, gate):
    gate.clear()
    page = ready(open_page(opened))
    page.get_by_role("tab", name="counter").click()
    button(page, "Generate").filter(visible=True).click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(x => x.value == 'once ')")
    gate.set()
    whole = "".join(WORDS)
    page.wait_for_function(
        "t => [...document.querySelectorAll('textarea')].some(x => x.value == t)", arg=whole
    )


@pytest.mark.browser
def test_an_uploaded_picture_is_predicted_from(opened, open_page, tmp_path):
    picture = genloom.Image(np.full((4, 4, 3), 51, np.uint8)).save(tmp_path / "it's grey.png")
    page = ready(open_page(opened))
    page.get_by_role("tab", name="brightness").click()
    seen(page, "button:has-text('Predict')").wait_for()
    page.locator("input[type=file]").last.set_input_files(picture)
    page.locator(".curl .cm-content", has_text="base64").wait_for()
    button(page, "Predict").filter(visible=True).click()
    page.locator(".bars", has_text="0.2").wait_for()
    run = subprocess.run(curl_of(page), shell=True, capture_output=True, timeout=20, cwd=tmp_path)
    assert json.loads(run.stdout)["predictions"][0]["value"] == pytest.approx(0.2)


@pytest.mark.browser
def test_classes_are_shown_and_chosen_by_their_names(sounding, open_page):
    page = ready(open_page(sounding))
    button(page, "Predict").filter(visible=True).click()
    page.locator(".bars", has_text="dog").filter(visible=True).wait_for()
    shown = page.locator(".bars").filter(visible=True).inner_text()
    assert {"cat", "dog", "bird"} <= set(shown.split())
    assert "class 1" not in shown
    page.get_by_label("animal").filter(visible=True).click()
    page.get_by_role("option", name="bird").click()
    page.locator(".curl .cm-content", has_text='"animal": 2').filter(visible=True).wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("model", ["speaker", "composer"])
def test_sounds_and_scores_are_played(sounding, open_page, model):
    page = ready(open_page(sounding))
    page.get_by_role("tab", name=model).click()
    # Long enough that a slow machine sees it play.
    if model == "speaker":
        page.get_by_label("text").filter(visible=True).fill("abcdefgh" * 20)
    else:
        page.get_by_role("spinbutton", name="length").filter(visible=True).fill("60")
    with page.expect_response(lambda response: response.url.endswith(".wav")) as sound:
        button(page, "Generate").filter(visible=True).click()
    assert genloom.Audio.from_bytes(sound.value.body()).duration_s == pytest.approx(15.6, abs=0.5)
    pause = page.get_by_label("Pause", exact=True).filter(visible=True)
    play = page.get_by_label("Play", exact=True).filter(visible=True)
    for _ in range(40):
        if pause.count():
            break
        play.first.click()  # again where the player did not have the sound yet
        page.wait_for_timeout(500)
    assert pause.count() == 1
    if model == "composer":
        assert page.locator(".scores rect").count() == 60
        assert page.locator("a[download$='.mid']").count() == 1


@pytest.mark.browser
def test_the_api_s_page_is_there_without_another_host(opened, open_page):
    page = open_page(f"{opened}/docs")
    page.locator(".opblock-post").first.click()
    page.get_by_text("Request body").first.wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(opened, open_page, scheme):
    page = ready(open_page(opened, viewport={"width": 390, "height": 844}, color_scheme=scheme))
    for name in ("drawer", "counter", "brightness"):
        page.get_by_role("tab", name=name).click()
        page.get_by_role("heading", name=name).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_a_closed_endpoint_asks_for_the_key_and_forgets_a_revoked_one(closed, open_page):
    url, door, _ = closed
    door.valid, door.asked = True, 0
    page = open_page(url)
    page.get_by_label("Key").fill("wrong" * 8)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    ready(page)
    assert KEY not in page.content() + page.url
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "$GENLOOM_API_KEY" in curl_of(page)
    button(page, "Generate").click()
    seen(page, ".pictures img").first.wait_for()
    assert door.asked == 1
    door.valid = False
    assert page.request.get(f"{url}/config").status == 401
    page.reload()
    page.get_by_label("Key").wait_for()


@pytest.fixture
def signed_in(closed) -> Iterator[httpx.Client]:
    url, door, _ = closed
    door.valid = True
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/login", data={"key": KEY}).status_code == 303
        yield client


def test_nothing_of_the_page_is_reached_without_a_session(closed):
    url = closed[0]
    with httpx.Client(base_url=url, timeout=60) as client:
        for cookie in ("", "x" * 43):
            client.cookies.set(COOKIE, cookie)
            assert "Sign in" in client.get("/").text
            assert "gradio" not in client.get("/").text.lower()
            for path, method in wall.EXACT.items():
                if path not in ("/", "/login", "/logout"):
                    assert client.request(method, path).status_code == 401, path
            for path in wall.BELOW:
                assert client.get(f"{path}x").status_code == 401, path


def test_nothing_of_gradio_but_the_form_is_there(signed_in):
    for path in (
        "info",
        "openapi.json",
        "api/predict",
        "call/x",
        "proxy=http://127.0.0.1",
        "runs",
        "vibe-edit",
        "component_server",
        "queue/status",
        "app_id",
        "token",
    ):
        for method in ("GET", "POST"):
            assert signed_in.request(method, f"/gradio_api/{path}").status_code in (404, 405), path
    assert signed_in.get("/gradio_api/run/predict").status_code == 405


def test_no_file_but_the_page_s_own_is_read(signed_in):
    for name in ("/etc/passwd", "http://127.0.0.1:1/x", "relative", "/tmp/../etc/passwd"):
        assert signed_in.get(f"/gradio_api/file={name}").status_code == 404, name
    for path in ("/etc/passwd", "http://127.0.0.1:1/x"):
        body = {
            "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}],
            "fn_index": 1,
            "session_hash": "x",
        }
        for route in ("queue/join", "run/predict"):
            answer = signed_in.post(f"/gradio_api/{route}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_file")


def test_a_foreign_page_and_a_foreign_host_are_refused(signed_in, opened):
    for origin in ("https://evil.example", "null", f"{opened}.evil.example"):
        assert (
            signed_in.post("/gradio_api/queue/join", json={}, headers={"Origin": origin}).status_code
            == 403
        )
        assert httpx.get(opened, headers={"Origin": origin}).status_code == 403
    assert httpx.get(opened, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{opened}/login").status_code in (404, 405)


def test_uploads_are_limited(signed_in, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_BODY_BYTES", 1000)
    answer = signed_in.post("/gradio_api/upload", files={"files": b"x" * 2000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    monkeypatch.setattr(uploads, "MAX_FILES_BYTES", -1)
    assert signed_in.post("/gradio_api/upload", files={"files": b"x"}).status_code == 503


def test_signing_out_ends_the_session(signed_in):
    assert signed_in.get("/config").status_code == 200
    assert "swagger" in signed_in.get("/docs").text
    cookie = signed_in.cookies[COOKIE]
    assert signed_in.post("/logout").status_code == 303
    signed_in.cookies.set(COOKIE, cookie)
    assert signed_in.get("/config").status_code == 401
    assert "Sign in" in signed_in.get("/docs").text


def test_the_routes_keep_their_places(opened):
    assert httpx.get(f"{opened}/healthz").json() == {"status": "ok"}
    assert "swagger" in httpx.get(f"{opened}/docs").text
    assert httpx.get(f"{opened}/v1/generate").status_code == 405
    assert httpx.get(f"{opened}/nothing").json()["error"]["code"] == "not_found"
    assert "/gradio_api/queue/join" not in httpx.get(f"{opened}/openapi.json").json()["paths"]


def test_a_page_s_files_go_with_it(local_backend, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with running(create_app(local_backend("drawer"))) as url:
        assert httpx.get(url, timeout=60).status_code == 200
        assert list(tmp_path.glob("genloom-playground-*"))
    assert list(tmp_path.glob("genloom-playground-*")) == []


def test_the_page_follows_what_is_served(local_backend):
    backend = local_backend("drawer")
    cards = list(backend.models())
    catalog = Catalog(lambda: cards)
    app = FastAPI()
    wall.install(app, Maker(backend, catalog), None)
    with running(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert "counter" not in client.get("/").text
        cards.append(served(toys.counter(), 0).card())
        assert "counter" not in client.get("/config").text
        assert "counter" in client.get("/").text


def test_a_session_ends_with_time_and_the_oldest_makes_room():
    now = [0.0]
    sessions = Sessions(Revocable(), lambda: now[0])

    async def fill() -> list[str | None]:
        return [await sessions.open(KEY.encode()) for _ in range(MAX_SESSIONS + 1)]

    with ThreadPoolExecutor(1) as apart:  # the browser's loop runs in this thread
        tokens = apart.submit(asyncio.run, fill()).result()
        assert apart.submit(asyncio.run, sessions.open(b"wrong")).result() is None
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1])
    assert KEY not in repr(vars(sessions))
    assert tokens[1] not in repr(vars(sessions))
    now[0] = LASTS_S
    assert sessions.find(tokens[1]) is None


class Inner(BaseModel):
    speed: int = Field(default=3, ge=1, le=5)


class Rich(genloom.Prompt):
    """All sorts."""

    label: int | None = Field(default=None, ge=0, le=9)
    warmth: float = Field(default=1.0, gt=0, le=1)
    style: Literal["oil", "ink"] = "ink"
    bold: bool = False
    loud: bool | None = None
    words: str
    sound: genloom.Audio | None = None
    score: genloom.Notes | None = None
    inner: Inner
    tags: list[str] = Field(default=[])


def rich_fields(monkeypatch) -> dict[str, fields.Field]:
    monkeypatch.setattr(toys.Counter, "Prompt", Rich)
    return {field.name: field for field in fields.fields_of(served(toys.counter(), 0).card())}


def test_each_kind_of_field_becomes_a_part_of_the_form(monkeypatch):
    found = rich_fields(monkeypatch)
    kinds = {name: field.kind for name, field in found.items()}
    assert kinds == {
        "label": "integer", "warmth": "number", "style": "choice", "bold": "boolean", "loud": "choice",
        "words": "text", "sound": "audio", "score": "notes", "inner.speed": "integer", "tags": "json",
    }  # fmt: skip
    assert found["label"].bounds == "from 0 to 9"
    assert found["warmth"].bounds == "over 0 to 1"


def test_a_form_becomes_the_prompt_without_what_is_empty_or_as_it_is_by_default(monkeypatch):
    found = rich_fields(monkeypatch)
    filled = {
        "label": "",
        "warmth": 0.5,
        "style": "0",
        "loud": "1",
        "words": "x",
        "inner.speed": 4,
        "tags": '["a"]',
    }
    prompt = fields.prompt_of([(found[name], raw) for name, raw in filled.items()])
    assert prompt == {
        "warmth": 0.5, "style": "oil", "loud": False, "words": "x", "inner": {"speed": 4}, "tags": ["a"],
    }  # fmt: skip
    assert fields.value_of(found["label"], "seven") == "seven"
    with pytest.raises(fields.Unreadable, match=r"tags = \{x: it is no JSON"):
        fields.prompt_of([(found["tags"], "{x")])


def test_a_number_that_is_a_class_of_the_dataset_is_a_choice_by_name():
    card = served(toys.animals(), 0).card()
    assert card.classes == {"animal": ("cat", "dog", "bird")}
    found = {field.name: field for field in fields.fields_of(card)}
    animal = found["animal"]
    assert (animal.kind, animal.choices, animal.names) == ("choice", (0, 1, 2), ("cat", "dog", "bird"))
    assert fields.prompt_of([(animal, "2")]) == {"animal": 2}
    assert fields.prompt_of([(animal, "")]) == {}


@pytest.mark.parametrize(
    ("answer", "names", "bars"),
    [
        ((1, "", (0.2, 0.8)), ("cat", "dog"), {"cat": 0.2, "dog": 0.8}),
        ((1, "hound", (0.2, 0.8)), ("cat", "dog"), {"cat": 0.2, "hound": 0.8}),
        ((1, "", (0.2, 0.8)), (), {"class 0": 0.2, "class 1": 0.8}),
        ((0, "", (0.2, 0.8)), ("x", "x"), {"x (0)": 0.2, "x (1)": 0.8}),
        ((1, "", ()), ("cat", "dog"), "dog"),
        ((1, "", ()), (), "class 1"),
    ],
)
def test_bars_have_the_names_of_classes(answer, names, bars):
    told = dict(zip(("index", "name", "probabilities"), answer, strict=True))
    assert answers._bars(told, names) == bars


def test_a_score_sounds_as_it_is_written():
    score = genloom.Notes([genloom.Note(69, 0.5, 1.0), genloom.Note(127, 1.0, 0.5)])
    sound = hearing.heard(score)
    wave, rate = sound.waveform[0], sound.rate_hz
    assert sound.duration_s == pytest.approx(1.5 + hearing.TAIL_S, abs=0.01)
    assert not wave[: rate // 2].any()
    part = wave[rate // 2 : rate]
    assert np.abs(np.fft.rfft(part)).argmax() * rate / len(part) == pytest.approx(440, abs=3)
    assert 0 < np.abs(wave).max() <= 1
    assert hearing.heard(genloom.Notes([])).duration_s > 0
    assert hearing.heard(genloom.Notes([genloom.Note(60, 1e6, 1.0)])).duration_s < 1


def test_the_snippets_survive_any_text(tmp_path):
    nasty = 'it\'s $HOME `id` \\ "x" \n é $(id) END'
    (tmp_path / "a 'b'.png").write_bytes(b"\x00picture")
    for prompt in ({"text": nasty}, {"text": nasty, "image": snippets.File("a 'b'.png", "Image")}):
        question = snippets.Question("http://h", "generator", "m", [prompt], "image", locked=True)
        stand_in = 'curl() { for x; do [ "$x" = "@-" ] && cat; done; printf %s "${@: -1}"; }'
        shell = f"{stand_in}\n{snippets.curl(question)}"
        out = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path).stdout
        sent = json.loads(out.removesuffix("@-"))
        assert sent["prompts"][0]["text"] == nasty
        if "image" in prompt:
            assert base64.b64decode(sent["prompts"][0]["image"]) == b"\x00picture"
        compile(snippets.python(question), "snippet", "exec")
