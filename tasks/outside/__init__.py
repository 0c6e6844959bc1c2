"""Data of others, read lazily and checked with line numbers: folders of images with captions, LLaVA-style
conversations, preferences.

`read_captions`, `read_llava` and `read_preferences` yield records one by one; a fault names its file and
line. `TASKS` holds the same data as tasks, so that a mixture can contain them.
"""

from unified.tasks.outside.captions import Caption, read_captions
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.llava import Conversation, read_llava
from unified.tasks.outside.outside_tasks import TASKS, CaptionsConfig, LlavaConfig
from unified.tasks.outside.preference import Preference, read_preferences

__all__ = [
    "TASKS",
    "Caption",
    "CaptionsConfig",
    "Conversation",
    "Faults",
    "LlavaConfig",
    "Preference",
    "read_captions",
    "read_llava",
    "read_preferences",
]
