"""The page in a browser, with the shipped model: every tab does what it says, by mouse, keys and touch."""

import json
import shutil
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.scenes import random_scene, render
from unified.tasks.scenes.generate import Wish
from unified.train.preference.data import check_pair

import unified

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
import uvicorn
from playwright import sync_api

from unified.server.app import create_app
from unified.server.guard import LOCAL, Access
from unified.web.page import add_page
from unified.web.store import VOTES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser: apt-get install chromium"),
]
WAIT = 600_000  # milliseconds: a busy machine takes long, a broken page for ever
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def url(folder):
    """A server with the page on a free port."""
    app = create_app(
        unified.load(),
        access=Access(page=True, hosts=LOCAL),
        page=lambda app, service: add_page(app, service, folder),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    listening.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def context(browser):
    return browser.new_context(viewport={"width": 1000, "height": 900})


@pytest.fixture(scope="module")
def page(context, url):
    """The page, whose requests and errors are noted."""
    opened = context.new_page()
    opened.set_default_timeout(WAIT)
    opened.asked, opened.errors = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.goto(url)
    opened.get_by_role("tab", name="Chat").wait_for()
    return opened


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files with a scene and a maze."""
    place = tmp_path_factory.mktemp("pictures")
    scene = render(random_scene(np.random.default_rng(5), "test", Wish(least=2, most=3)), 64)
    maze = MazeTask(MazeConfig(seed=0, image_size=64, sizes=((4, 4),))).sample(0, "test")
    shown = {"scene": scene, "maze": maze.messages[0]["content"][0]["image"]}
    for name, picture in shown.items():
        Image.fromarray(picture).save(place / f"{name}.png")
    return {name: str(place / f"{name}.png") for name in shown}


def show(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def done(page, name, words="finished"):
    """Until the line of a tab says so; an error in it fails at once."""
    line = page.locator(f"#{name}-status")
    page.wait_for_function(
        "([id, words]) => { const line = document.querySelector(`#${id}-status`);"
        " return line.innerText.includes(words) || line.querySelector('.error'); }",
        arg=[name, words],
        timeout=WAIT,
    )
    assert line.locator(".error").count() == 0, line.inner_text()
    return line.inner_text()


def test_a_picture_is_uploaded_and_asked_about(page, pictures):
    show(page, "Chat")
    page.locator("#chat-box input[type=file]").set_input_files(pictures["scene"])
    page.locator("#chat-box .thumbnails img, #chat-box img").first.wait_for()
    page.get_by_label("Your message").fill("How many objects are there?")
    page.get_by_label("Your message").press("Enter")
    done(page, "chat")
    shown = page.locator("#chat img")
    assert shown.count() >= 1
    assert shown.first.evaluate("image => image.naturalWidth") == 64
    bot = page.locator("#chat .bot, #chat [data-testid=bot]").last
    assert bot.inner_text().strip()


def test_a_drawing_comes_map_by_map(page):
    show(page, "Draw")
    page.get_by_label("What to draw").fill("Draw a large red circle.")
    page.locator("#draw").click()
    done(page, "draw")
    assert page.locator("#draw-maps img").count() > 3
    assert page.locator("#draw-picture img").first.evaluate("image => image.naturalWidth") == 64


@pytest.fixture(scope="module")
def editing(context, url):
    """The page with the editor, which draws all the time: the last of its tests closes it."""
    opened = context.new_page()
    opened.set_default_timeout(WAIT)
    opened.goto(url)
    opened.get_by_role("tab", name="Edit", exact=True).click()
    return opened


def test_an_edit_keeps_what_the_mask_does_not_cover(editing):
    page = editing
    page.get_by_role("button", name="Example picture 1").click()
    canvas = page.locator("#editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    for step in range(8):
        page.mouse.move(box["x"] + box["width"] * (0.4 + 0.03 * step), box["y"] + box["height"] * 0.5)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.get_by_label("What to change").fill("Add a small red star.")
    page.locator("#edit").click()
    done(page, "edit")
    assert page.locator("#edit-picture img").count() == 3, "before, mask, after: the brush has left a mask"
    assert page.get_by_alt_text("kept outside the mask").count() == 1


def test_a_mask_is_named_without_a_mouse(editing):
    page = editing
    page.get_by_label("bottom right").focus()
    page.keyboard.press("Space")
    page.get_by_label("What to change").fill("Make it blue.")
    page.locator("#edit").focus()
    page.keyboard.press("Enter")
    page.get_by_alt_text("after: Make it blue.").wait_for()
    done(page, "edit")
    assert page.get_by_alt_text("kept outside the mask").count() == 1
    page.close()


def test_a_maze_is_solved_with_sketches_in_line(page, pictures):
    show(page, "Solve")
    page.locator("#maze input[type=file]").set_input_files(pictures["maze"])
    page.locator("#maze img").first.wait_for()
    page.locator("#solve").click()
    said = done(page, "solve", "go forward")
    assert "go forward" in said
    assert page.locator("#solve-answer img").count() >= 1


def test_ten_steps_are_played_by_keys_in_both_worlds(page):
    show(page, "Play")
    page.locator("#play-start").click()
    done(page, "play", "click or tab")
    first = [page.locator("#play-frames img").nth(n).get_attribute("src") for n in range(2)]
    page.locator("#play-pad").focus()
    for number in range(1, 11):
        page.keyboard.press("ArrowRight" if number % 2 else "w")
        done(page, "play", f"step {number},")
    assert "frames/s" in page.locator("#play-status").inner_text()
    assert all(page.locator("#play-frames img").nth(n).get_attribute("src") != first[n] for n in range(2))
    page.get_by_role("button", name="Look left").click()
    done(page, "play", "step 11,")


def test_a_vote_is_a_record_for_preference_tuning(page, folder):
    show(page, "Compare")
    page.get_by_label("Prompt", exact=True).fill("Draw a large red circle and a small blue star.")
    page.locator("#compare").click()
    done(page, "compare", "which one is better?")
    for number in range(2):
        assert page.locator("#compare-answers .answer").nth(number).locator("img").count() >= 1
    page.locator("#vote-B").click()
    done(page, "compare", "your vote for B is kept")
    record = json.loads((folder / VOTES).read_text())
    check_pair(record, unified.load().processor)


def test_the_inside_of_an_answer_is_shown(page, pictures):
    show(page, "Look inside")
    panel = page.get_by_role("tabpanel").filter(has=page.locator("#look"))
    panel.locator("input[type=file]").first.set_input_files(pictures["scene"])
    panel.locator("img").first.wait_for()
    page.get_by_label("Question", exact=True).fill("Describe the shapes and their colours.")
    page.locator("#look").click()
    done(page, "look", "the answer:")
    assert page.locator("#look-codes table").count() > 3
    assert page.locator("#look-tokens tbody tr").count() >= 2
    assert page.locator("#look-attention img").count() >= 1


def test_a_conversation_is_there_after_the_page_is_opened_again(context, page, url):
    again = context.new_page()
    again.set_default_timeout(WAIT)
    again.goto(url)
    again.get_by_role("button", name="Saved conversations").click()
    again.wait_for_function("document.querySelector('#saved input').value", timeout=WAIT)
    again.get_by_role("button", name="Open", exact=True).click()
    done(again, "chat", "opened")
    assert again.locator("#chat img").count() >= 1
    again.close()


def test_another_visitor_sees_nothing_of_it(browser, page, url):
    other = browser.new_context().new_page()
    other.set_default_timeout(WAIT)
    other.goto(url)
    other.get_by_role("button", name="Saved conversations").click()
    other.wait_for_timeout(2000)
    assert other.get_by_label("Of this browser").input_value() == ""
    assert other.locator("#chat img").count() == 0
    other.context.close()


def test_a_phone_and_a_keyboard_are_enough(browser, page, url):
    phone = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True).new_page()
    phone.set_default_timeout(WAIT)
    phone.goto(url)
    phone.get_by_role("tab", name="Chat").wait_for()
    for _ in range(20):
        phone.keyboard.press("Tab")
        if phone.evaluate("document.activeElement.getAttribute('role')") == "tab":
            break
    assert phone.evaluate("document.activeElement.innerText").strip() == "Chat"
    phone.keyboard.press("Tab")
    phone.keyboard.press("Enter")
    phone.get_by_label("What to draw").wait_for()
    phone.get_by_label("What to draw").focus()
    phone.keyboard.type("Draw a green square.")
    phone.keyboard.press("Shift+Enter")
    done(phone, "draw")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.context.close()


def test_nothing_was_asked_of_another_host_and_nothing_failed(page, url):
    hosts = {address.split("/")[2] for address in page.asked if address.startswith(("http", "ws"))}
    assert hosts == {url.split("/")[2]}
    assert page.errors == []
