"""A model folder: what is saved is what is loaded, and every missing or spoilt file is one line."""

import json
import shutil

import pytest
import torch
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.text import byte_tokenizer, train_text_tokenizer

from unified.apps.demo import random_model
from unified.pretrained import SHIPPED, find, load_model, load_processor, save_model
from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, processor = random_model(3)
    save_model(folder, model, processor)
    return folder, model, processor


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def test_weights_and_tokenizers_come_back_exactly(saved):
    folder, model, processor = saved
    again, other = load_model(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    for name, value in processor.visual.state_dict().items():
        assert torch.equal(other.visual.state_dict()[name], value), name
    assert (other.vocabulary, other.order, other.sides) == (processor.vocabulary, "next_scale", None)
    assert other.action.config == processor.action.config
    words = "Naïve 猫 \n\t🙂"
    assert other.stream.text.encode(words) == processor.stream.text.encode(words)
    assert not again.training


def test_half_precision_weights_load_in_the_type_that_is_asked_for(saved, tmp_path):
    _, model, processor = saved
    save_model(tmp_path, model, processor, dtype=torch.bfloat16)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 0.6 * (saved[0] / "model.safetensors").stat().st_size
    again, other = load_model(tmp_path)
    assert again.dtype == torch.float32
    name = "text_head.weight"
    assert torch.equal(again.state_dict()[name], model.state_dict()[name].bfloat16().float())
    assert next(other.visual.parameters()).dtype == torch.float32
    assert load_model(tmp_path, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_processor_goes_round_by_itself(tmp_path):
    torch.manual_seed(0)
    visual = ResidualVQTokenizer(ResidualVQConfig(sizes=(1, 2, 4))).eval()
    text = train_text_tokenizer(["the red circle", "the blue circle"] * 9, 280)
    words = Vocabulary(text=len(text), visual=visual.codes)
    processor = Processor(words, text, visual, order="residual", sides=(1, 2))
    processor.save_pretrained(tmp_path)
    again = Processor.from_pretrained(tmp_path)
    assert (again.order, again.sides, again.action) == ("residual", (1, 2), None)
    picture = torch.rand(3, 32, 32) * 2 - 1
    assert again.image_item(picture) == processor.image_item(picture)
    assert again.stream.text.decode(text.encode("the red circle")) == "the red circle"


def test_text_alone_is_a_processor_too(tmp_path):
    Processor(Vocabulary(), byte_tokenizer()).save_pretrained(tmp_path)
    assert Processor.from_pretrained(tmp_path).visual is None


def test_a_folder_of_the_former_form_loads_as_it_was(make_model, tmp_path):
    """Without `appended`, with `fold` for `merge`: the ids and rows of then."""
    orders = ["next_scale", "residual", "raster", "diagonal"]
    model = make_model(vocabulary={"orders": orders, "merge": 2})
    save_model(tmp_path, model, Processor(model.vocabulary, byte_tokenizer()))
    for name in ("config.json", "processor.json"):
        data = json.loads((tmp_path / name).read_text())
        for field in ("appended", "named"):
            del data["vocabulary"][field]
        data["vocabulary"]["fold"] = data["vocabulary"].pop("merge")
        data.pop("readers", None)
        (tmp_path / name).write_text(json.dumps(data))
    again, processor = load_model(tmp_path)
    assert again.vocabulary == processor.vocabulary == model.vocabulary
    assert (again.vocabulary.merge, again.vocabulary.tail) == (2, ())
    save_model(tmp_path, again, processor)
    saved = json.loads((tmp_path / "processor.json").read_text())["vocabulary"]
    assert (saved["merge"], saved["appended"], "fold" in saved) == (2, [], False)


@pytest.mark.skipif(not (SHIPPED / "config.json").is_file(), reason="this copy ships no trained weights")
def test_the_shipped_models_ids_are_what_they_were():
    words = load_processor(SHIPPED).vocabulary
    names = ("pad", "begin", "close", "order:next_scale", "order:diagonal", "size:1", "size:16")
    assert [words.special[name] for name in names] == [1024, 1025, 1033, 1034, 1037, 1038, 1053]
    assert (words.visual_start, words.action_start, words.size) == (1054, 5150, 5338)
    assert (words.table_size, words.embedding_size, words.merge) == (1242, 1242, 16)


FILES = (
    "config.json",
    "model.safetensors",
    "processor.json",
    "text_tokenizer.json",
    "visual_config.json",
    "visual.safetensors",
    "action.json",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense"])
def test_a_missing_or_spoilt_file_is_one_line_that_names_it(copy, name, damage):
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"{\xff nonsense")
    with pytest.raises(ValueError, match=name) as refusal:
        load_model(copy)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"head": "guess"}, "unknown head 'guess'"),
        ("config.json", {"model_type": "bert"}, "model_type is 'bert'"),
        ("config.json", {"vocabulary": {"text": 300}}, "different vocabularies"),
        ("processor.json", {"order": "spiral"}, "spiral"),
        ("processor.json", {"vocabulary": {"letters": 3}}, "letters"),
        ("visual_config.json", {"kind": "film"}, "unknown kind 'film'"),
        ("visual_config.json", {"colour": 1}, "colour"),
        ("visual_config.json", {"codes": 512}, "weights do not fit"),
        ("action.json", {"camera_bins": 5}, "camera_bins"),
    ],
)
def test_what_does_not_fit_is_refused(copy, name, change, message):
    data = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps({**data, **change}))
    with pytest.raises(ValueError, match=message) as refusal:
        load_model(copy)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_model_are_refused(copy):
    (copy / "model.safetensors").unlink()
    shutil.copy(copy / "visual.safetensors", copy / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors: weights do not fit"):
        load_model(copy)


def test_folders_that_are_none_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for name in (tmp_path / "nowhere", tmp_path / "file", "./a/b"):
        with pytest.raises(ValueError, match="no such model folder"):
            find(name)
    with pytest.raises(ValueError, match="no such model folder"):
        load_processor(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="neither a folder nor a model") as refusal:
        find("nobody/nothing")  # offline in tests
    assert "\n" not in str(refusal.value)
