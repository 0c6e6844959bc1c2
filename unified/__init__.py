"""One language-model backbone over one stream of discrete tokens.

`unified.stream` and `unified.layout` say what the ids mean, `unified.model` computes their likelihood,
`unified.decoding.session` continues them. The sibling folders (`tokenizers/`, `envs/`, ...) are sub-packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified.apps.assistant import Assistant

__version__ = "0.1.0"

# In a checkout the sub-packages lie beside this folder; in a wheel they lie inside it.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))

from unified import moved  # noqa: E402  (needs the path above)
from unified.envs.registration import register_envs  # noqa: E402
from unified.hugging_face.registration import register_auto_classes  # noqa: E402

register_envs()  # gymnasium.make("unified/Voxel-v0")
moved.register()  # import names of the last release
register_auto_classes()  # transformers.AutoModel..., AutoProcessor, AutoTokenizer; imports nothing yet


def load(model: str | Path | None = None, **options: Any) -> Assistant:
    """An assistant with the verbs ask, draw, edit, solve, imagine, act and chat. `model`: a folder or hub
    name, None for the weights that ship with the package. See `unified.apps.loading.load`."""
    from unified.apps.loading import load as load_assistant

    return load_assistant(model, **options)
