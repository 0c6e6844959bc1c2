"""Data of others: what is read, and how faults are told."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from unified.tasks.outside import Faults, read_captions, read_llava, read_preferences
from unified.tasks.packing import pack
from unified.tasks.registry import make


def write_images(folder, *names, side=12):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (40 * number, 90, 10)).save(folder / name)


def refusal(read, *arguments):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked by the caller
        [record.image() if hasattr(record, "image") else record.messages() for record in read(*arguments)]
    assert "\n" not in str(error.value)
    return str(error.value)


# Captions ---------------------------------------------------------------------------------------------------


def test_captions_of_the_three_layouts(tmp_path):
    for name in ("texts", "lines", "table"):
        write_images(tmp_path / name, "a.png", "deep/b.jpg")
    (tmp_path / "texts/a.txt").write_text("A green square.\n")
    (tmp_path / "texts/deep/b.txt").write_text("Ünïcode")
    lines = [
        {"file_name": "a.png", "text": "A green square."},
        {"file_name": "deep/b.jpg", "text": "Ünïcode"},
    ]
    (tmp_path / "lines/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    (tmp_path / "table/metadata.csv").write_text(
        'file_name,caption\na.png,"A green square."\ndeep/b.jpg,Ünïcode\n'
    )
    for name in ("texts", "lines", "table"):
        found = list(read_captions(tmp_path / name))
        assert [record.text for record in found] == ["A green square.", "Ünïcode"]
        assert found[0].image().shape == (12, 12, 3)
        assert found[1].image(size=8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "x.png", "text": "t"}', "metadata.jsonl:2: no such image 'x.png'"),
        ('{"file_name": "a.png"}', "metadata.jsonl:2: the key 'text' is missing"),
        ('{"file_name": "a.png", "text": " "}', "metadata.jsonl:2: text must be a text, got ' '"),
        ('{"file_name": "../secret.png", "text": "t"}', "metadata.jsonl:2: the image '../secret.png' lies"),
        ('{"file_name": 3, "text": "t"}', "metadata.jsonl:2: file_name must be a text, got 3"),
        ('["a.png", "t"]', "metadata.jsonl:2: expected an object, got list"),
        ('{"file_name": "a.png",', "metadata.jsonl:2: not JSON"),
        ('{"file_name": "a.png", "text": NaN}', "metadata.jsonl:2: NaN is not a number"),
        (
            '{"file_name": "bad.png", "text": "t"}',
            "metadata.jsonl:2: cannot read image 'bad.png': not a picture",
        ),
        ('{"file_name": "cut.png", "text": "t"}', "metadata.jsonl:2: cannot read image 'cut.png'"),
    ],
)
def test_a_bad_caption_names_its_line(line, message, tmp_path):
    write_images(tmp_path / "data", "a.png", "cut.png", side=64)
    write_images(tmp_path, "secret.png")
    folder = tmp_path / "data"
    (folder / "bad.png").write_text("no image at all")
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) * 2 // 3])
    good = '{"file_name": "a.png", "text": "good"}'
    (folder / "metadata.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    assert message in refusal(read_captions, folder)


def test_bad_captions_can_be_left_out_and_are_counted(tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    lines = ['{"file_name": "a.png", "text": "1"}', "oops", '{"file_name": "c.png", "text": "2"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, '{"file_name": "b.png", "text": "3"}']))
    faults = Faults("skip")
    with pytest.warns(UserWarning, match=r"left out: metadata.jsonl:2: not JSON.* and 1 more"):
        found = list(read_captions(tmp_path, faults))
    assert [record.text for record in found] == ["1", "3"]
    assert [line.split(": ")[0] for line in faults.lines] == ["metadata.jsonl:2", "metadata.jsonl:3"]
    with pytest.raises(ValueError, match="on_error must be one of"):
        Faults("ignore")


def test_bad_tables_and_texts_name_their_place(tmp_path):
    write_images(tmp_path, "a.png")
    assert "a.png: no caption: a.txt is missing" in refusal(read_captions, tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    assert "a.txt: not UTF-8" in refusal(read_captions, tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,one\na.png\n")
    assert "metadata.csv:3: 1 values for 2 columns" in refusal(read_captions, tmp_path)
    (tmp_path / "metadata.csv").write_text("name,text\na.png,one\n")
    assert "metadata.csv:2: the key 'file_name' is missing" in refusal(read_captions, tmp_path)


def test_empty_and_missing_folders_are_refused(tmp_path):
    assert "no image with a caption" in refusal(read_captions, tmp_path)
    assert "not a folder" in refusal(read_captions, tmp_path / "none")
    (tmp_path / "metadata.jsonl").write_text("\n")
    assert "metadata.jsonl: the file is empty" in refusal(read_captions, tmp_path)


def test_odd_images_become_rgb(tmp_path):
    Image.new("L", (6, 4), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("P", (4, 4)).save(tmp_path / "palette.gif")
    turned = Image.new("RGB", (6, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    for name in ("grey", "clear", "palette", "turned"):
        (tmp_path / f"{name}.txt").write_text(name)
    found = {record.text: record.image() for record in read_captions(tmp_path)}
    assert {image.dtype for image in found.values()} == {np.dtype(np.uint8)}
    assert found["grey"][0, 0].tolist() == [77, 77, 77]
    assert found["clear"][0, 0].tolist() == [255, 255, 255]
    assert found["turned"].shape == (6, 4, 3)


@pytest.mark.parametrize("form", ["read", "draw"])
def test_the_captions_task(form, captions_folder):
    sample = make("captions", folder=str(captions_folder), form=form, size=16).sample(0)
    kinds = [[item["type"] for item in message["content"]] for message in sample.messages]
    assert kinds == ([["image", "text"], ["text"]] if form == "read" else [["text"], ["image"]])
    assert sample.meta["source"].startswith("metadata.jsonl:")


def test_the_captions_task_can_skip(tmp_path):
    write_images(tmp_path, "a.png")
    (tmp_path / "b.png").write_text("broken")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    with pytest.warns(UserWarning, match=r"left out: b.png: cannot read image"):
        task = make("captions", folder=str(tmp_path), on_error="skip", validation=0, test=0)
    assert {task.sample(index).messages[1]["content"][0]["text"] for index in range(3)} == {"a"}
    with pytest.raises(ValueError, match="no record falls into the split 'test'"):
        task.sample(0, "test")


# LLaVA ------------------------------------------------------------------------------------------------------

TALK = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A square."}]


def write_llava(folder, *records, name="talk.json"):
    text = "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]"
    (folder / name).write_text(text)
    return folder / name


def test_llava_conversations(tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    drawn = [{"from": "human", "value": "Mirror <image> this"}, {"from": "gpt", "value": "<image>"}]
    text = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, TALK[1]]
    records = [
        {"id": "1", "image": "a.png", "conversations": TALK},
        {"image": ["a.png", "b.png"], "conversations": drawn},
        {"conversations": text},
    ]
    found = list(read_llava(write_llava(tmp_path, *records)))
    first, second, third = (record.messages() for record in found)
    assert [item["type"] for item in first[0]["content"]] == ["image", "text"]
    assert first[0]["content"][1]["text"] == "What is this?"
    assert [item["type"] for item in second[0]["content"]] == ["text", "image", "text"]
    assert second[1]["content"][0]["image"][0, 0].tolist() == [40, 90, 10]
    assert [message["role"] for message in third] == ["system", "user", "assistant"]
    assert [record.where for record in found] == ["talk.json:2", "talk.json:3", "talk.json:4"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": "a.png"}, "the key 'conversations' is missing"),
        ({"image": "c.png", "conversations": TALK}, "no such image 'c.png'"),
        ({"conversations": TALK}, "1 <image> in the texts, but 0 images"),
        ({"image": 4, "conversations": TALK}, "image must be the name of an image file"),
        ({"image": "a.png", "conversations": TALK[:1]}, "must end with a turn of gpt"),
        ({"image": "a.png", "conversations": [TALK[0], TALK[0], TALK[1]]}, "must take turns"),
        ({"image": "a.png", "conversations": []}, "must be a list of turns"),
        ({"image": "a.png", "conversations": [{"from": "cat", "value": "<image>"}]}, "unknown speaker 'cat'"),
        ({"image": "a.png", "conversations": [{"from": "gpt"}]}, r"conversations\[0\] must be"),
        ({"image": "a.png", "conversations": [TALK[0], {"from": "gpt", "value": ""}]}, "must not be empty"),
        ("talk", "expected an object, got str"),
    ],
)
def test_a_bad_conversation_names_its_line(record, message, tmp_path):
    write_images(tmp_path, "a.png")
    path = write_llava(tmp_path, {"image": "a.png", "conversations": TALK}, record)
    said = refusal(read_llava, path)
    assert said.startswith("talk.json:3: ")
    assert message.replace("\\", "") in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "talk.json: the file is empty"),
        ("[]", "talk.json: the list is empty"),
        ("{}", r"talk.json: expected a list of records ([...])"),
        ('[\n{"conversations": 1}\n{"conversations": 1}]', "talk.json:2: conversations must be a list"),
        ('[\n\n{"a": }]', "talk.json:3: not JSON"),
        ('[{"a": NaN}]', "talk.json:1: NaN is not a number"),
        ("[", "talk.json:1: not JSON"),
    ],
)
def test_bad_json_names_its_line(text, message, tmp_path):
    (tmp_path / "talk.json").write_text(text)
    assert message in refusal(read_llava, tmp_path / "talk.json")


def test_a_missing_comma_is_found_after_good_records(tmp_path):
    record = json.dumps({"conversations": [{"from": "human", "value": "Hi"}, TALK[1]]}, indent=1)
    (tmp_path / "talk.json").write_text(f"[{record}\n{record}]")
    assert "expected ',' or ']'" in refusal(read_llava, tmp_path / "talk.json")


# Preferences ------------------------------------------------------------------------------------------------


def write_lines(folder, *records):
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    return folder / "pairs.jsonl"


def gpt(text):
    return {"from": "gpt", "value": text}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "What is this? <image>", "chosen": "A.", "rejected": "B.", "images": ["a.png"]},
        {"prompt": "What is this?", "chosen": "A.", "rejected": "B.", "images": ["a.png"]},
        {"prompt": [TALK[0]], "chosen": [gpt("A.")], "rejected": gpt("B."), "images": "a.png"},
        {"conversations": [TALK[0]], "chosen": gpt("A."), "rejected": gpt("B."), "images": ["a.png"]},
    ],
)
def test_preferences_about_a_picture(record, tmp_path):
    write_images(tmp_path, "a.png")
    found = next(read_preferences(write_lines(tmp_path, record))).messages(size=8)
    assert sorted(item["type"] for item in found["prompt"][0]["content"]) == ["image", "text"]
    assert found["chosen"] == [{"role": "assistant", "content": [{"type": "text", "text": "A."}]}]
    assert found["rejected"] == [{"role": "assistant", "content": [{"type": "text", "text": "B."}]}]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Draw.", "chosen_image": "a.png", "rejected_image": "b.png"},
        {
            "conversations": [{"from": "human", "value": "Draw."}],
            "chosen": gpt("<image>"),
            "rejected": gpt("<image>"),
            "images": ["a.png", "b.png"],
        },
    ],
)
def test_preferences_between_drawings(record, tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    found = next(read_preferences(write_lines(tmp_path, record))).messages()
    shown = [found[name][0]["content"][0]["image"][0, 0, 0] for name in ("chosen", "rejected")]
    assert shown == [0, 40]


def test_a_drawing_may_come_with_words(tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    record = {"prompt": "Draw.", "chosen": "Here.", "chosen_image": "a.png", "rejected_image": "b.png"}
    found = next(read_preferences(write_lines(tmp_path, record))).messages()
    assert [item["type"] for item in found["chosen"][0]["content"]] == ["text", "image"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "P", "chosen": "A"}, "the key 'rejected' (or 'rejected_image') is missing"),
        ({"chosen": "A", "rejected": "B"}, "the key 'prompt' is missing"),
        ({"prompt": "P", "chosen": "A", "rejected": "A"}, "chosen and rejected are equal"),
        ({"prompt": "P <image>", "chosen": "A", "rejected": "B"}, "1 <image> in the texts, but 0 images"),
        ({"prompt": "P", "chosen": {"from": "human", "value": "A"}, "rejected": "B"}, "by the assistant"),
        ({"prompt": [gpt("P")], "chosen": "A", "rejected": "B"}, "must end with a turn of the user"),
        ({"prompt": "P", "chosen_image": "x.png", "rejected": "B"}, "no such image 'x.png'"),
        ({"prompt": "P", "chosen": 3, "rejected": "B"}, "chosen must be {"),
        ({"prompt": "P", "chosen": [], "rejected": "B"}, "chosen must be a list of turns"),
        ({"prompt": "", "chosen": "A", "rejected": "B"}, "prompt must be a text"),
    ],
)
def test_a_bad_preference_names_its_line(record, message, tmp_path):
    good = {"prompt": "P", "chosen": "A", "rejected": "B"}
    said = refusal(read_preferences, write_lines(tmp_path, good, record))
    assert said.startswith("pairs.jsonl:2: ")
    assert message in said


# Forms of published data, and what skipping covers ----------------------------------------------------------


def data_url(colour="red"):
    file = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def chat(*parts, key="messages", **more):
    said = {"role": "assistant", "content": "A square."}
    return {key: [{"role": "user", "content": list(parts)}, said], **more}


ASKED = {"type": "text", "text": "What is this?"}
FORMS = {
    "further keys": {"id": 1, "model": "m", "width": 12, "image": "a.png", "conversations": TALK},
    "keys that are null": {"image": "a.png", "images": None, "system": None, "conversations": TALK},
    "keys in turns": {
        "image": "a.png",
        "conversations": [{**TALK[0], "weight": None}, {**TALK[1], "score": 1}],
    },
    "messages with images": {
        "messages": [
            {"role": "user", "content": "<image> What is this?"},
            {"role": "assistant", "content": "A."},
        ],
        "images": ["a.png"],
    },
    "an image by its path": chat({"type": "image", "path": "a.png"}, ASKED),
    "an image by its url": chat({"type": "image", "url": "a.png"}, ASKED),
    "the next image": chat({"type": "image"}, ASKED, images=[{"path": "a.png", "bytes": None}]),
    "a data URL": chat(ASKED, {"type": "image_url", "image_url": {"url": data_url(), "detail": "low"}}),
    "a bare data URL": chat({"type": "image", "image": data_url()}, ASKED),
    "parts in conversations": chat({"type": "image", "path": "a.png"}, ASKED, key="conversations"),
}


@pytest.mark.parametrize("record", FORMS.values(), ids=FORMS.keys())
@pytest.mark.filterwarnings("ignore:.*keys that are not used")
def test_common_forms_of_a_conversation_about_a_picture(record, tmp_path):
    write_images(tmp_path, "a.png")
    user, assistant = next(read_llava(write_llava(tmp_path, record))).messages()
    assert sorted(item["type"] for item in user["content"]) == ["image", "text"]
    assert next(item for item in user["content"] if item["type"] == "text")["text"] == "What is this?"
    assert [item["type"] for item in assistant["content"]] == ["text"]


def test_a_data_url_is_the_picture_in_it(tmp_path):
    record = chat(ASKED, {"type": "image_url", "image_url": data_url("blue")})
    image = next(read_llava(write_llava(tmp_path, record))).messages()[0]["content"][1]["image"]
    assert image.shape == (4, 5, 3)
    assert image[0, 0].tolist() == [0, 0, 255]
    sample = make("llava", path=str(tmp_path / "talk.json"), size=8, validation=0, test=0).sample(0)
    assert sample.messages[0]["content"][1]["image"].shape == (8, 8, 3)


def test_unknown_keys_are_one_warning_for_the_file(tmp_path):
    talk = [{"from": "human", "value": "Hi"}, TALK[1]]
    records = [{"conversations": talk, "model": "m"}, {"conversations": talk, "length": 3, "model": ""}]
    with pytest.warns(UserWarning, match="talk.json: keys that are not used: 'model', 'length'$") as told:
        assert len(list(read_llava(write_llava(tmp_path, *records)))) == 2
    assert len(told) == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (chat(ASKED, {"type": "image", "url": "https://example.org/a.png"}), "pictures are not downloaded"),
        (chat({"type": "audio", "path": "a.wav"}), "part 0 has type 'audio': give text, image or image_url"),
        (
            chat(ASKED, {"type": "image_url", "image_url": "data:text/plain;base64,AAAA"}),
            "not a picture of a known kind",
        ),
        (chat(ASKED, {"type": "image_url", "image_url": "data:image/png;base64,@"}), "'@' is not base64"),
        (
            chat(ASKED, {"type": "image", "url": "data:image/png;base64,AAAA"}),
            "cannot read image 'the image inside the record'",
        ),
        ({"messages": [{"role": "tool", "content": "42"}]}, "unknown speaker 'tool': turns of tools"),
        ({"conversations": [TALK[1], {"from": "gpt", "value": "cut \ud83d"}]}, "half of a surrogate pair"),
        ({"image": "a" * 900, "conversations": TALK}, "File name too long"),
        ({"image": "a\0.png", "conversations": TALK}, "no such file"),
        ({"conversations": None}, "'conversations' is null"),
    ],
)
def test_what_is_not_taken_is_named_in_the_terms_of_the_data(record, message, tmp_path):
    good = {"conversations": [{"from": "human", "value": "Hi"}, TALK[1]]}
    said = refusal(read_llava, write_llava(tmp_path, good, record))
    assert said.startswith("talk.json:3: ")
    assert message in said
    assert "codes" not in said


@pytest.mark.parametrize(
    "record",
    [
        chat({"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": "a.png"}),
        chat({"text": "What?"}, {"image": "a.png"}),
        {
            "image": "a.png",
            "conversations": [{"from": "Human", "value": "<image> ?"}, {"from": "GPT", "value": "A"}],
        },
    ],
)
def test_other_spellings_of_items_and_speakers_are_taken(record, tmp_path):
    write_images(tmp_path, "a.png")
    (found,) = read_llava(write_llava(tmp_path, record))
    assert [path.name for path in found.images] == ["a.png"]


BAD_RECORDS = (
    '{"conversations": [{"from": "human", "value": "\\ud83d"}, {"from": "gpt", "value": "A"}]}',
    '{"image": "' + "a" * 5000 + '", "conversations": []}',
    '{"id": 1' + "0" * 400 + "}",
    '{"id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"id": NaN}',
    '{"id": 1e999}',
    '{"id": 1,, "b": 2}',
    "7",
)


@pytest.mark.parametrize("lines", [True, False])
def test_skipping_covers_all_that_is_wrong_with_a_record(lines, tmp_path):
    """What `validate` names, `skip` leaves out, and what is left is built."""
    write_images(tmp_path, "a.png")
    good = json.dumps({"image": "a.png", "conversations": TALK})
    texts = [good, *BAD_RECORDS, good]
    path = tmp_path / ("talk.jsonl" if lines else "talk.json")
    path.write_text("\n".join(texts) if lines else "[" + ",\n".join(texts) + "]")
    faults = Faults("skip")
    with pytest.warns(UserWarning, match=f"and {len(BAD_RECORDS) - 1} more"):
        assert len(list(read_llava(path, faults=faults))) == 2
    wanted = [f"{path.name}:{number + 2}" for number in range(len(BAD_RECORDS))]
    assert [line.split(": ")[0] for line in faults.lines] == wanted
    with pytest.warns(UserWarning, match="left out"):
        task = make("llava", path=str(path), on_error="skip", size=8, validation=0, test=0)
    assert len(pack(task.sample(1))["images"]) == 1


def test_a_file_that_breaks_off_keeps_what_came_before(tmp_path):
    good = json.dumps({"conversations": [{"from": "human", "value": "Hi"}, TALK[1]]})
    (tmp_path / "talk.json").write_text(f"[{good},\n{good},\n{good[:30]}")
    faults = Faults("skip")
    with pytest.warns(UserWarning, match=r"left out: talk.json:3: not JSON"):
        assert len(list(read_llava(tmp_path / "talk.json", faults=faults))) == 2
    assert len(faults.lines) == 1


def test_a_data_set_without_a_good_record_says_so(tmp_path):
    (tmp_path / "talk.json").write_text("[1, 2]")
    said = r"no good record among 2 bad: talk.json:1: expected an object"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match=said):
        make("llava", path=str(tmp_path / "talk.json"), on_error="skip")


@pytest.mark.parametrize("name", ["talk.JSONL", "talk.json", "talk.jsonl"])
def test_files_of_windows_editors(name, tmp_path):
    """A byte order mark, CRLF, and endings in capitals; a `.json` may hold one record a line."""
    write_images(tmp_path, "a.PNG")
    line = json.dumps({"image": "a.PNG", "conversations": TALK})
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n{line}\r\n".encode())
    assert len([record.messages() for record in read_llava(tmp_path / name)]) == 2
    (tmp_path / name).write_bytes(f"[{line}]".encode("utf-16"))
    assert "UTF-16: save it as UTF-8" in refusal(read_llava, tmp_path / name)


def test_a_bad_byte_costs_its_line(tmp_path):
    line = json.dumps({"conversations": [{"from": "human", "value": "Hi"}, TALK[1]]}).encode()
    (tmp_path / "talk.jsonl").write_bytes(line + b"\n\xff" + line + b"\n" + line)
    with pytest.warns(UserWarning, match=r"left out: talk.jsonl:2: not UTF-8 text: .* at byte 0"):
        assert len(list(read_llava(tmp_path / "talk.jsonl", faults=Faults("skip")))) == 2


def test_files_that_other_systems_leave_are_passed_over(tmp_path):
    write_images(tmp_path, "a.JPG", "__MACOSX/._a.JPG", "._a.JPG", ".hidden/b.png")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "a.txt").write_text("A square.")
    assert [record.path.name for record in read_captions(tmp_path)] == ["a.JPG"]


def test_an_imagefolder_with_further_columns(tmp_path):
    write_images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbffile_name,label,text\r\na.png,3,one\r\n")
    with pytest.warns(UserWarning, match="keys that are not used: 'label'"):
        assert [record.text for record in read_captions(tmp_path)] == ["one"]
    line = {"file_name": "a.png", "text": "two", "caption": None, "objects": {"bbox": [1]}}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line))
    with pytest.warns(UserWarning, match="keys that are not used: 'objects'"):
        assert [record.text for record in read_captions(tmp_path)] == ["two"]


@pytest.mark.parametrize("prompt", [{}, {"prompt": "What is this?"}])
@pytest.mark.filterwarnings("ignore:.*keys that are not used")
def test_preferences_between_whole_conversations(prompt, tmp_path):
    asked = {"role": "user", "content": "What is this?"}
    answers = {name: [asked, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    found = next(
        read_preferences(write_lines(tmp_path, {**prompt, **answers, "score_chosen": 8.5}))
    ).messages()
    texts = {name: [turn["content"][0]["text"] for turn in turns] for name, turns in found.items()}
    assert texts == {"prompt": ["What is this?"], "chosen": ["chosen"], "rejected": ["rejected"]}


def test_a_prompt_begins_with_its_images_when_answers_have_their_own(tmp_path):
    write_images(tmp_path, "a.png", "b.png", "c.png")
    drawn = {"chosen_image": "b.png", "rejected_image": "c.png"}
    record = {"prompt": "Mirror this.", "images": ["a.png"], **drawn}
    found = next(read_preferences(write_lines(tmp_path, record))).messages()
    shown = [found[name][0]["content"][0]["image"][0, 0, 0] for name in ("prompt", "chosen", "rejected")]
    assert shown == [0, 40, 80]
