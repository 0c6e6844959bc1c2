"""Coloured shapes on a ground: pictures with exact descriptions, and the tasks made from them.

Start with `scene.py` (what a picture is), `render.py` (how it is drawn) and `parser.py` (how it is read
back).
"""

from unified.tasks.scenes.chatting import SceneChat
from unified.tasks.scenes.generate import random_scene
from unified.tasks.scenes.moving import MovesConfig, SceneMoves
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Scene, SceneObject
from unified.tasks.scenes.scene_tasks import TASKS as TURNS
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneTask
from unified.tasks.scenes.unknown import UnknownPicture

TASKS: dict[str, type[SceneTask]] = {**TURNS, SceneChat.name: SceneChat}

__all__ = [
    "TASKS",
    "MovesConfig",
    "Scene",
    "SceneChat",
    "SceneConfig",
    "SceneMoves",
    "SceneObject",
    "UnknownPicture",
    "random_scene",
    "render",
]
