"""The command `unified`.

Exit status: see `unified.command`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from unified import __version__
from unified.command import Parser, run

COMMANDS = {  # where the function of each command lives; imported only when it is called
    "demo": "unified.apps.demo:demo",
    "chat": "unified.apps.commands.chat:chat",
    "ask": "unified.apps.commands.verbs:ask",
    "draw": "unified.apps.commands.verbs:draw",
    "edit": "unified.apps.commands.verbs:edit",
    "control": "unified.apps.commands.controls:control",
    "upscale": "unified.apps.commands.controls:upscale",
    "solve": "unified.apps.commands.verbs:solve",
    "imagine": "unified.apps.commands.verbs:imagine",
    "act": "unified.apps.commands.verbs:act",
    "play": "unified.apps.commands.play:play",
    "serve": "unified.apps.commands.serve:serve",
    "page": "unified.apps.commands.serve:serve",
    "prefer": "unified.apps.commands.prefer:prefer",
    "extend": "unified.apps.commands.extend:extend",
    "eval": "unified.apps.commands.evaluate:evaluate",
    "lab": "unified.apps.commands.lab:lab",
    "info": "unified.apps.commands.info:info",
}


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    root = Parser(
        prog="unified", description="One model that reads, draws and edits images and predicts worlds."
    )
    root.add_argument("--version", action="version", version=f"unified {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_chat(commands)
    _add_verbs(commands)
    _add_controls(commands)
    _add_play(commands)
    _add_serve(commands)
    _add_prefer(commands)
    _add_extend(commands)
    _add_eval(commands)
    _add_lab(commands)
    _command(commands, "info", "what a model is made of")
    return root


def _command(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    from unified.apps.commands.common import add_model_options

    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    add_model_options(command)
    return command


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = _command(commands, "demo", "a tour of about a minute: prints a conversation, writes pictures")
    demo.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the pictures")


def _add_chat(commands: argparse._SubParsersAction) -> None:
    chat = _command(commands, "chat", "talk with the model; /help lists what it can do")
    chat.add_argument("--image", nargs="+", metavar="FILE", help="pictures to show with the first message")
    chat.add_argument("--tokens", type=_positive, default=512, help="longest answer (default 512)")
    drafts = "a smaller model of the same text tokenizer that drafts answers (speculative decoding)"
    chat.add_argument("--draft", metavar="FOLDER", help=drafts)
    kept = "keep what is typed for the next time, in the user's state folder (default)"
    chat.add_argument("--history", action=argparse.BooleanOptionalAction, default=True, help=kept)
    chat.add_argument(
        "--out", type=Path, default=Path("chat_out"), help="folder for pictures the terminal cannot show"
    )


def _add_verbs(commands: argparse._SubParsersAction) -> None:
    ask = _command(commands, "ask", "answer a question, about a picture if one is given")
    ask.add_argument("question")
    asked = "a picture that the question is about; again for another one, where the model reads several"
    ask.add_argument("--image", type=Path, metavar="FILE", action="append", default=[], help=asked)
    look = "first list what each part shows, not printed (default; --no-look is faster)"
    ask.add_argument("--look", action=argparse.BooleanOptionalAction, default=True, help=look)
    ground = "set words off against those said without the picture: less that it does not show (M3ID)"
    ask.add_argument("--grounded", action="store_true", help=ground)
    draw = _command(commands, "draw", "draw what a prompt says")
    draw.add_argument("prompt")
    draw.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to write it, as --out")
    draw.add_argument("--size", type=_size, metavar="HxW", help="in pixels (default: the model's own)")
    warmth = "0: greedy decoding (default of our own models); above 0: sampled by --seed"
    draw.add_argument("--temperature", type=_temperature, metavar="T", help=warmth)
    held = "codes that each layer holds while the image is written (ScaleKV): a number, or a file of budgets"
    draw.add_argument("--scale-kv", type=_budget, metavar="N|FILE", help=held)
    way = "how steps become passes: one_pass (default), speculative or lantern"
    draw.add_argument("--strategy", metavar="NAME", help=way)
    edit = _command(commands, "edit", "change a picture as an instruction says")
    edit.add_argument("image", type=Path)
    edit.add_argument("instruction")
    mask = "a picture of the same shape: what is white in it is painted anew, the codes outside stay"
    edit.add_argument("--mask", type=Path, metavar="FILE", help=mask)
    for command in (draw, edit):
        command.add_argument("--out", type=Path, default=Path("picture.png"), help="default picture.png")
        closely = "scale of classifier-free guidance (1: off; default: the model's own)"
        command.add_argument("--guidance", type=_guidance, metavar="G", help=closely)
        tries = "best of at most N images of several objects, judged by the model (default 3)"
        command.add_argument("--tries", type=_positive, metavar="N", help=tries)
        _add_adapters(command)
    solve = _command(commands, "solve", "solve a maze with sketches")
    solve.add_argument("image", type=Path)
    solve.add_argument("--text-only", action="store_true", help="reason without sketches")
    solve.add_argument("--out", type=Path, metavar="FILE", help="where to write the sketches, side by side")
    solve.add_argument("--save", type=Path, metavar="DIR", help="write a page and a strip of the trace")
    own = "the model decides what it draws and when (default: a sketch after every part)"
    solve.add_argument("--own", action="store_true", help=own)
    solve.add_argument("--most-images", type=_positive, metavar="N", help="of --own: sketches (default 64)")
    solve.add_argument("--most-ids", type=_positive, metavar="N", help="of --own: ids (default 65536)")
    solve.add_argument("--most-seconds", type=_seconds, metavar="S", help="of --own: seconds (default: any)")
    page = "of --own: after N sketches begin anew with the latest as the picture (default: never)"
    solve.add_argument("--page", type=_positive, metavar="N", help=page)
    solve.add_argument("--prompt", metavar="WORDS", help="of a model trained on traces of another request")
    imagine = _command(commands, "imagine", "roll out frames from a picture and a script of actions")
    imagine.add_argument("image", type=Path)
    imagine.add_argument(
        "actions", type=Path, metavar="FILE", help="actions: .jsonl, or lines such as: forward camera 0 5 x4"
    )
    imagine.add_argument("--out", type=Path, default=Path("walk.gif"), help=".gif or .png, default walk.gif")
    window = "frames that stay in the cache (default 8)"
    imagine.add_argument("--window", type=_positive, default=8, help=window)
    act = _command(commands, "act", "choose an action for what a frame shows")
    act.add_argument("image", type=Path)
    act.add_argument("--task", default="Explore.", help="what to do, in words")


def _add_controls(commands: argparse._SubParsersAction) -> None:
    control = _command(commands, "control", "draw what a prompt says, laid out as a picture shows it")
    control.add_argument("prompt")
    shown = control.add_mutually_exclusive_group(required=True)
    shown.add_argument("--edges", type=Path, metavar="FILE", help="a picture whose edges are the layout")
    given = "a layout as it stands: an edge map, a sketch, a depth map"
    shown.add_argument("--condition", type=Path, metavar="FILE", help=given)
    tries = "best of at most N images of several objects, judged by the model (default 3)"
    control.add_argument("--tries", type=_positive, metavar="N", help=tries)
    upscale = _command(commands, "upscale", "draw a picture larger, tile by tile")
    upscale.add_argument("image", type=Path)
    upscale.add_argument("--to", type=_positive, required=True, metavar="N", help="pixels of the longer side")
    for command in (control, upscale):
        command.add_argument("--out", type=Path, default=Path("picture.png"), help="default picture.png")
        closely = "scale of classifier-free guidance (1: off); the picture is seen in both branches"
        command.add_argument("--guidance", type=_guidance, metavar="G", help=closely)
        warmth = "0: greedy decoding (default); above 0: sampled by --seed"
        command.add_argument("--temperature", type=_temperature, metavar="T", help=warmth)
        _add_adapters(command)


def _add_adapters(command: argparse.ArgumentParser) -> None:
    text = "an adapter's file, again for another one; of a style also FILE:style or FILE:content"
    command.add_argument("--adapter", action="append", default=[], metavar="FILE", help=text)


def _add_play(commands: argparse._SubParsersAction) -> None:
    play = _command(commands, "play", "play the voxel world and the dream of it side by side, by keyboard")
    which = play.add_mutually_exclusive_group()
    which.add_argument("--dream-only", action="store_true", help="without the real world")
    which.add_argument("--real-only", action="store_true", help="without the dream; needs no model")
    start = "a picture, a recording, or words: where the dream starts (with --dream-only)"
    play.add_argument("--start", metavar="FILE|WORDS", help=start)
    play.add_argument(
        "--size", type=_size, metavar="HxW", help="of a frame, in pixels (default: the model's)"
    )
    views = ("auto", "window", "terminal", "none")
    view = "default: a window where there is a display and pygame, else the terminal; none with --script"
    play.add_argument("--view", choices=views, default="auto", help=view)
    script = "keys instead of a keyboard, a step a line: w space x10"
    play.add_argument("--script", type=Path, metavar="FILE", help=script)
    play.add_argument(
        "--fps", type=_rate, default=20.0, metavar="N", help="steps a second at most (default 20)"
    )
    play.add_argument("--turn", type=_turn, default=10.0, metavar="DEG", help="of an arrow key (default 10)")
    play.add_argument(
        "--out", type=Path, default=Path("play_out"), help="folder for clips (default play_out)"
    )


def _add_serve(commands: argparse._SubParsersAction) -> None:
    serve = _command(commands, "serve", "answer over HTTP, in the form of OpenAI's interface")
    shown = "with a page for browsers: chat, draw, edit, solve, play, compare (also: unified page)"
    serve.add_argument("--page", action="store_true", help=shown)
    spread = "replicas under Ray Serve, as this JSON file says (extra cluster; see docs/serving.md)"
    serve.add_argument("--cluster", type=Path, metavar="FILE", help=spread)
    _add_server_options(serve)
    page = _command(commands, "page", "a page for browsers, and the server behind it: serve --page")
    page.set_defaults(page=True, cluster=None)
    _add_server_options(page)


def _add_server_options(serve: argparse.ArgumentParser) -> None:
    store = "of --page: folder for its conversations and votes (default page_out)"
    serve.add_argument("--store", type=Path, default=Path("page_out"), metavar="DIR", help=store)
    local = "address to listen on (default 127.0.0.1; another one needs an API key)"
    serve.add_argument("--host", default="127.0.0.1", help=local)
    serve.add_argument("--port", type=_port, default=8000, help="default 8000")
    serve.add_argument("--name", help="what clients call the model (default: its folder's name, or unified)")
    keys = "accepted API keys, one a line (default: that of the variable UNIFIED_API_KEY, if it is set)"
    serve.add_argument("--api-key-file", type=Path, metavar="FILE", help=keys)
    pages = "a page such as https://example.org that may send requests; again for another (default: none)"
    serve.add_argument("--origin", metavar="ORIGIN", action="append", default=[], help=pages)
    serve.add_argument("--rows", type=_positive, metavar="N", help="answers generated at once (default 16)")
    queue = "answers that wait at most; more are told to come again (default 64)"
    serve.add_argument("--queue", type=_positive, metavar="N", help=queue)
    worlds = "worlds a client may have at once, forks included (default 4)"
    serve.add_argument("--worlds", type=_positive, metavar="N", help=worlds)
    serve.add_argument("--tokens", type=_positive, metavar="N", help="ids an answer may have (default 2048)")
    serve.add_argument("--images", type=_positive, metavar="N", help="images it may have (default 8)")
    seconds = "an answer may take, at most (default 120)"
    serve.add_argument("--seconds", type=_seconds, metavar="S", help=seconds)


def _add_prefer(commands: argparse._SubParsersAction) -> None:
    prefer = _command(commands, "prefer", "choose between two answers; choices are pairs for training")
    prefer.add_argument("prompt", nargs="?", default="")
    prefer.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line")
    prefer.add_argument("--image", type=Path, metavar="FILE", help="a picture that every prompt is about")
    prefer.add_argument("--draw", action="store_true", help="answers are drawings")
    prefer.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default 1")
    prefer.add_argument("--tokens", type=_positive, default=128, help="longest answer (default 128)")
    prefer.add_argument("--out", type=Path, default=Path("pairs.jsonl"), help="pairs are appended to it")
    where = "folder for the pictures of the answers (default answers)"
    prefer.add_argument("--pictures", type=Path, default=Path("answers"), help=where)


def _add_extend(commands: argparse._SubParsersAction) -> None:
    text = "give a pretrained image-text model a pen: visual codes, action ids, heads"
    extend = commands.add_parser("extend", help=text, description=text)
    extend.add_argument("folder", metavar="FOLDER", help="an image-text model of transformers, or a hub name")
    visual = "folder of a visual tokenizer, or of a model that has one (default: that of the shipped model)"
    extend.add_argument("--visual", metavar="TOKENIZER", help=visual)
    extend.add_argument("--actions", action="store_true", help="with the ids of game actions")
    extend.add_argument("--out", type=Path, default=Path("extended"), help="default: ./extended")
    extend.add_argument("--seed", type=_seed, default=0, help="of the new weights (default 0)")
    extend.add_argument("--json", action="store_true", help="print one JSON object for machines")


def _add_eval(commands: argparse._SubParsersAction) -> None:
    evaluate = _command(commands, "eval", "measure the model on held-out data; writes JSON, Markdown, PNG")
    names = "default: all of them; `tokenizer FOLDER ...` compares visual tokenizers, published ones too"
    evaluate.add_argument("suites", nargs="*", metavar="SUITE", help=names)
    evaluate.add_argument(
        "--count", type=_positive, default=200, help="samples per measurement (default 200)"
    )
    evaluate.add_argument("--batch", type=_positive, default=16, help="conversations at once (default 16)")
    evaluate.add_argument("--split", choices=("test", "validation"), default="test")
    evaluate.add_argument("--inverse", type=Path, metavar="FILE", help="inverse dynamics model for `world`")
    play = "of `world`: clips of this folder of play (.mp4 and .jsonl) in place of the voxel world's"
    evaluate.add_argument("--recordings", type=Path, metavar="DIR", help=play)
    evaluate.add_argument(
        "--lpips",
        type=Path,
        nargs=2,
        metavar=("BACKBONE", "LINEAR"),
        help="weights of LPIPS for `world` and `tokenizer`: torchvision's AlexNet or VGG16, and LPIPS's own",
    )
    own = "of `tokenizer FOLDER`: folders of images (or of clips), each a domain"
    evaluate.add_argument("--data", nargs="+", action="extend", default=[], metavar="[NAME=]PATH", help=own)
    teacher = "of `tokenizer FOLDER`: the teacher that a tokenizer of kind hita was trained with"
    evaluate.add_argument("--features", default="", metavar="NAME", help=teacher)
    text = "of `tokenizer FOLDER`: text through the tokenizers alone, read by Tesseract where it is installed"
    evaluate.add_argument("--suite", choices=("vtbench",), help=text)
    side = "of `tokenizer FOLDER`: side of the images for tokenizers that take any (default 64)"
    evaluate.add_argument("--size", type=_positive, default=64, metavar="PIXELS", help=side)
    evaluate.add_argument("--out", type=Path, default=Path("eval_out"), help="folder of the report")


def _add_lab(commands: argparse._SubParsersAction) -> None:
    text = "published techniques as small experiments on one ground"
    lab = commands.add_parser("lab", help=text, description=text)
    lab.intermixed = True
    actions = (
        "list the papers; run experiments; write the report; train the ground; check parts; combine parts"
    )
    lab.add_argument("action", choices=("list", "run", "report", "prepare", "conform", "cross"), help=actions)
    lab.add_argument("names", nargs="*", metavar="NAME", help="papers to run, or parts to check")
    lab.add_argument("--seeds", type=_positive, default=3, metavar="N", help="of each arm (default 3)")
    lab.add_argument("--threads", type=_positive, default=2, metavar="N", help="of the processor (default 2)")
    lab.add_argument("--toy", action="store_true", help="tiny, to see that everything works")
    lab.add_argument(
        "--out", type=Path, default=Path("docs/lab"), help="results and pages (default docs/lab)"
    )
    lab.add_argument("--work", type=Path, default=Path("runs/lab"), help="checkpoints (default runs/lab)")
    weights = "folder of the ground's weights (default: those that ship with the package)"
    lab.add_argument("--weights", type=Path, metavar="FOLDER", help=weights)
    lab.add_argument("--json", action="store_true", help="print JSON for machines")


def _seed(text: str) -> int:
    from unified.apps.commands.common import seed

    return seed(text)


def _positive(text: str) -> int:
    from unified.apps.commands.common import count

    return count(text)


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, got {number}")
    return number


def _temperature(text: str) -> float:
    from unified.apps.commands.common import number

    return number(text, 0)


def _seconds(text: str) -> float:
    from unified.apps.commands.common import number

    return number(text, 0)


def _rate(text: str) -> float:
    from unified.apps.commands.common import number

    return number(text, 0.1, 1000)


def _turn(text: str) -> float:
    from unified.apps.commands.common import number

    return number(text, 0.1, 180)


def _guidance(text: str) -> float:
    from unified.apps.commands.common import number

    return number(text, -1e30, 1e30)


def _budget(text: str) -> int | Path:
    return _positive(text) if text.lstrip("+-").isdecimal() else Path(text)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH such as 64x64, got {text!r}")
    return int(sides[0]), int(sides[1])


def main(arguments: Sequence[str] | None = None) -> int:
    return run("unified", _work, parser().parse_args(arguments))


def _work(options: argparse.Namespace) -> int:
    module, _, name = COMMANDS[options.command].partition(":")
    return int(getattr(importlib.import_module(module), name)(options))


if __name__ == "__main__":
    sys.exit(main())
