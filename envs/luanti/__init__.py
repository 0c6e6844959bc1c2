"""The game Luanti (formerly Minetest) as an environment: `gymnasium.make("unified/Luanti-v0")`.

`env` is the environment, `session` a running game in lock-step, `keeper` the program that leaves nothing of
it behind, `display` the virtual display's pixels and keys, `files` the game's settings, `mod/` our mod in it.
"""

from unified.envs.luanti.config import LuantiConfig
from unified.envs.luanti.env import LuantiEnv
from unified.envs.luanti.installed import installed, why_missing

__all__ = ["LuantiConfig", "LuantiEnv", "installed", "why_missing"]
