"""The default text tokenizer: byte-level BPE on what the tasks say, so that any string can be encoded."""

from unified.train.recipe import Source, TextTokenizerRecipe


def text_tokenizer() -> TextTokenizerRecipe:
    """Byte-level BPE of 1024 ids on the texts of all tasks."""
    talk = ("scene_caption", "scene_question", "scene_draw", "scene_edit", "scene_conversation")
    sources = [Source(task=task, samples=3000) for task in talk]
    sources += [Source(task="small_talk", samples=6000), Source(task="maze_text", samples=1500)]
    sources += [Source(task="world_play", samples=50, options={"frames": 2, "size": 16})]
    return TextTokenizerRecipe(size=1024, sources=tuple(sources))
