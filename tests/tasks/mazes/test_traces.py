"""A user's own traces: both forms of records, what is named by its line, and the task made of them."""

import json

import pytest
from PIL import Image
from unified.tasks.mazes import TASKS, write_records
from unified.tasks.mazes.records import INDEX
from unified.tasks.mazes.traces import read_traces
from unified.tasks.outside import Faults
from unified.tasks.registry import make
from unified.train.own_data import DataOptions, form_of, read_argument, sources_of


@pytest.fixture
def samples():
    return [TASKS["maze"]().sample(index) for index in range(6)]


def content(messages):
    return [
        (item["type"], item.get("text") or item["image"].tobytes())
        for message in messages
        for item in message["content"]
    ]


@pytest.mark.parametrize("per_image", [False, True])
def test_both_forms_give_the_whole_traces_back(samples, per_image, tmp_path):
    write_records(samples, tmp_path, per_image=per_image)
    traces = list(read_traces(tmp_path))
    assert len(traces) == len(samples)
    for trace, sample in zip(traces, samples, strict=True):
        assert content(trace.messages()) == content(sample.messages)
        assert list(trace.actions) == sample.meta["actions"]
    small = traces[0].messages(32)
    assert {item["image"].shape for item in small[1]["content"] if item["type"] == "image"} == {(32, 32, 3)}


def test_a_part_whose_beginning_is_missing_stands_alone(samples, tmp_path):
    samples = sorted(samples, key=lambda sample: -len(sample.meta["parts"]))[:2]
    write_records(samples, tmp_path, per_image=True)
    lines = (tmp_path / INDEX).read_text().splitlines()
    parts = [len(sample.meta["parts"]) for sample in samples]
    assert parts[0] > 1
    (tmp_path / INDEX).write_text("\n".join(lines[1:]) + "\n")
    first, *rest = read_traces(tmp_path)
    assert len(first.question_images) == 2
    assert len(first.answer_images) == parts[0] - 1
    assert [len(trace.answer_images) for trace in rest] == parts[1:]
    assert rest[0].where.endswith(f"line {parts[0]}")


def spoiled(folder, change):
    first, second = (folder / INDEX).read_text().splitlines()
    data = json.loads(second)
    change(data)
    (folder / INDEX).write_text(f"{first}\n{json.dumps(data)}\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("label_img"), "a record has the fields"),
        (lambda data: data.update(label_text=3), "field label_text"),
        (lambda data: data.update(label_text=" ", label_img=[]), "label_text is empty"),
        (lambda data: data.update(input_img=["../a.png"]), "outside|is missing"),
        (lambda data: data.update(label_text="<image>"), "label_text has 1 <image> but label_img names"),
    ],
)
def test_a_malformed_record_is_named_by_file_and_line(samples, change, said, tmp_path):
    folder = tmp_path / "traces"
    write_records(samples[:2], folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    spoiled(folder, change)
    with pytest.raises(ValueError, match=f"{INDEX} line 2: .*({said})") as error:
        list(read_traces(folder))
    assert "\n" not in str(error.value)
    faults = Faults("skip")
    assert len(list(read_traces(folder, faults))) == 1
    assert len(faults.lines) == 1


def test_a_damaged_picture_is_named_by_file_and_line(samples, tmp_path):
    write_records(samples[:2], tmp_path)
    path = tmp_path / json.loads((tmp_path / INDEX).read_text().splitlines()[1])["label_img"][0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{INDEX} line 2: cannot read image '{path.name}'"):
        [trace.messages() for trace in read_traces(tmp_path)]
    with pytest.raises(ValueError, match=f"{INDEX} line 2"):
        [make("traces", folder=str(tmp_path), test=0.0, validation=0.0).sample(n) for n in range(2)]
    task = make("traces", folder=str(tmp_path), on_error="skip", test=0.0, validation=0.0)
    assert task.count() == 1


def test_they_are_a_task_with_the_published_scores(samples, tmp_path):
    write_records(samples, tmp_path)
    task = make("traces", folder=str(tmp_path), test=0.0, validation=0.0, size=None)
    sample = task.sample(1)
    answer = sample.messages[-1]["content"]
    scores = task.score(sample, answer)
    assert (scores["exact"], scores["success"], scores["progress"]) == (1, 1, 1)
    assert task.score(sample, answer[:1])["success"] == 0
    assert 0 < task.score(sample, answer[:1])["progress"] < 1


def test_they_are_data_of_ones_own(samples, tmp_path):
    folder = tmp_path / "own"
    write_records(samples, folder)
    assert form_of(folder) == "traces"
    (source,) = sources_of([read_argument(str(folder))], DataOptions(size=32))
    assert source.task == "traces"
    assert source.samples == len(samples)
