"""A first-person world of blocks with MineRL's action and observation names.

`env.VoxelEnv` is the gymnasium environment, `simulation.Simulation` the game behind it, `tasks` what can be
asked for, `players` the scripted players that do it. Physics and pictures need numba.
"""

try:
    import numba  # noqa: F401
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("the voxel world needs numba: pip install 'unified-multimodal[worlds]'") from error

from unified.envs.voxel.config import VoxelConfig
from unified.envs.voxel.env import VoxelEnv
from unified.envs.voxel.vector import VoxelVectorEnv

__all__ = ["VoxelConfig", "VoxelEnv", "VoxelVectorEnv"]
