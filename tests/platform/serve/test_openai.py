"""OpenAI's own client against a real server, with real models in this process."""

import base64
import io
import time

import httpx
import numpy as np
import openai
import pytest
import serve_toys as toys
import soundfile
import torch
from local_endpoint import LocalBackend, serving

import genloom
from genloom_platform.serve.app import create_app
from genloom_platform.serve.model import served
from genloom_text.rnn import TextRNN

PICTURE = genloom.Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def no_stream_is_left() -> bool:
    """Whether all streams end soon: an end is told to the model, which then ends it."""
    deadline = time.monotonic() + 10
    while toys.Teller.open_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    return toys.Teller.open_streams == 0


def picture(item) -> genloom.Image:
    return genloom.Image.from_json(item.b64_json)


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()][:3] == ["drawer", "counter", "brightness"]
    model = client.models.retrieve("teller")
    assert (model.id, model.owned_by, model.created) == ("teller", "genloom", 1700000000)
    assert client.models.retrieve("teller@4").id == "teller"
    with pytest.raises(openai.NotFoundError, match="did you mean 'teller'"):
        client.models.retrieve("tellr")


def test_a_text_is_completed(client):
    answer = client.completions.create(model="teller", prompt="xyz", max_tokens=5, seed=2)
    assert answer.model == answer.system_fingerprint == "teller@4"
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.seed) == ("xyzxy", "length", 2)
    assert answer.usage.to_dict() == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_several_texts_have_seeds_that_follow_each_other(client):
    answer = client.completions.create(model="teller", prompt=["xy", "z"], n=2, max_tokens=2, seed=2)
    assert [(choice.text, choice.seed) for choice in answer.choices] == [
        ("xy", 2),
        ("XY", 3),
        ("zz", 2),
        ("ZZ", 3),
    ]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


def test_a_stream_holds_the_same_text_and_the_usage_where_it_is_asked_for(client):
    asked = {"model": "teller", "prompt": "xyz", "max_tokens": 5, "seed": 2}
    events = list(client.completions.create(**asked, stream=True))
    texts = [event.choices[0].text for event in events]
    assert "".join(texts) == "xyzxy"
    assert len([text for text in texts if text]) == 5
    assert [event.choices[0].finish_reason for event in events] == [None] * 5 + ["length"]
    assert all(event.usage is None for event in events)
    *_, last = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens == 5


def test_a_stream_comes_while_it_is_written(client):
    began = time.monotonic()
    stream = client.completions.create(model="teller", prompt="slow", max_tokens=20, stream=True)
    next(iter(stream))
    assert time.monotonic() - began < 0.6
    assert len(list(stream)) == 20
    assert time.monotonic() - began > 1


def test_a_caller_who_goes_ends_the_writing(client):
    stream = client.completions.create(model="teller", prompt="slow", max_tokens=1000, stream=True)
    next(iter(stream))
    assert toys.Teller.open_streams == 1
    stream.close()
    assert no_stream_is_left()


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_word_ends_the_text_before_it(client, stream):
    answer = client.completions.create(
        model="teller", prompt="one two ", max_tokens=100, seed=2, stop=["three", "wo o"], stream=stream
    )
    events = list(answer) if stream else [answer]
    assert "".join(event.choices[0].text for event in events) == "one t"
    assert events[-1].choices[0].finish_reason == "stop"
    assert no_stream_is_left()


def test_a_conversation_goes_on(client):
    messages = [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": [{"type": "text", "text": "c"}]},
    ]
    asked = {"model": "teller", "messages": messages, "seed": 2, "max_completion_tokens": 6}
    answer = client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "ab\ncab"
    assert answer.choices[0].message.role == "assistant"
    events = list(client.chat.completions.create(**asked, stream=True))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(event.choices[0].delta.content or "" for event in events) == "ab\ncab"
    assert events[-1].choices[0].finish_reason == "length"
    assert events[0].object == "chat.completion.chunk"


def test_a_failure_in_a_stream_is_told_in_it(client):
    stream = client.completions.create(model="teller", prompt="fail3", max_tokens=9, stream=True)
    with pytest.raises(openai.APIError, match="failed in this stream") as failure:
        list(stream)
    assert "secret" not in str(failure.value)


def test_a_failure_before_the_first_piece_has_a_status(client):
    for prompt, max_tokens, status in (("fail0", 9, 500), ("x", 10**9, 422)):
        with pytest.raises(openai.APIStatusError) as failure:
            client.completions.create(model="teller", prompt=prompt, max_tokens=max_tokens, stream=True)
        assert failure.value.status_code == status


def test_values_that_ask_for_nothing_are_taken(client):
    answer = client.completions.create(
        model="teller",
        prompt="x",
        n=1,
        best_of=1,
        echo=False,
        top_p=1,
        temperature=None,
        frequency_penalty=0,
        user="someone",
        stream=False,
        logprobs=None,
    )
    assert len(answer.choices[0].text) == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_p", 0.5), ("logprobs", 3), ("echo", True), ("best_of", 2), ("suffix", "x")],
)
def test_a_parameter_that_the_model_does_not_have_is_refused(client, name, value):
    with pytest.raises(openai.UnprocessableEntityError) as refusal:
        client.completions.create(model="teller", prompt="x", **{name: value})
    assert refusal.value.code == "unsupported_parameter"
    assert refusal.value.param == name
    assert "seed, start, max_chars, temperature" in refusal.value.message


def test_a_parameter_that_it_has_is_checked_by_its_own_bounds(client):
    with pytest.raises(openai.UnprocessableEntityError, match=r"give 2\.0 or less"):
        client.completions.create(model="teller", prompt="x", temperature=3)


def test_a_model_that_takes_no_text_takes_its_fields_as_words(client):
    answer = client.images.generate(model="drawer", prompt="label=3", n=2, extra_body={"seed": 5})
    assert [item.seed for item in answer.data] == [5, 6]
    beside = client.images.generate(model="drawer", prompt="", extra_body={"seed": 5, "label": 3})
    assert picture(beside.data[0]) == picture(answer.data[0])
    assert picture(answer.data[0]) != picture(answer.data[1])
    assert answer.model == "drawer@1"
    with pytest.raises(openai.UnprocessableEntityError, match="takes no text"):
        client.images.generate(model="drawer", prompt="a cat")


def test_pictures_come_as_webp_without_loss(client):
    answer = {
        form: client.images.generate(
            model="drawer", prompt="", output_format=form, extra_body={"seed": 5}
        )
        for form in ("png", "webp")
    }
    png, webp = (picture(answer[form].data[0]) for form in ("png", "webp"))
    assert answer["webp"].output_format == "webp"
    assert (webp.array == png.array).all()


def test_a_picture_is_changed(client):
    file = ("picture.png", PICTURE.to_bytes(), "image/png")
    answer = client.images.edit(model="enlarger", image=file, prompt="", n=2, extra_body={"factor": 3})
    assert len(answer.data) == 2
    assert picture(answer.data[0]).array.shape == (12, 12, 3)
    varied = client.images.create_variation(model="enlarger", image=file)
    assert picture(varied.data[0]).array.shape == (8, 8, 3)
    with pytest.raises(openai.UnprocessableEntityError, match="not a PNG, JPEG or WebP"):
        client.images.edit(model="enlarger", image=("x.png", b"no picture", "image/png"), prompt="")


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav", "ogg"])
def test_a_text_is_spoken(client, form):
    answer = client.audio.speech.create(
        model="speaker", input="abcde", voice="default", response_format=form, speed=0.5
    )
    waveform, rate_hz = soundfile.read(io.BytesIO(answer.content))
    assert len(waveform) / rate_hz == pytest.approx(1.01, abs=0.15)
    assert np.abs(waveform).max() == pytest.approx(0.5, abs=0.2)
    assert answer.response.headers["genloom-model"] == "speaker@5"
    assert answer.response.headers["genloom-seed"].isdecimal()


def test_speech_as_raw_values_has_24_khz(client):
    answer = client.audio.speech.create(model="speaker", input="abcde", voice="", response_format="pcm")
    assert len(answer.content) == pytest.approx(2 * 24000 * 0.51, rel=0.01)


def test_a_voice_that_the_model_does_not_have_is_refused(client):
    with pytest.raises(openai.UnprocessableEntityError, match="voice = 'alloy'"):
        client.audio.speech.create(model="speaker", input="a", voice="alloy")
    with pytest.raises(openai.UnprocessableEntityError, match="response_format"):
        client.audio.speech.create(model="speaker", input="a", voice="", response_format="aac")


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_features_are_found(client, encoding):
    chosen = {"encoding_format": encoding} if encoding else {}
    answer = client.embeddings.create(model="letters", input=["aab", "c"], **chosen)
    vectors = [item.embedding for item in answer.data]
    if encoding == "base64":
        vectors = [np.frombuffer(base64.b64decode(each), "<f4").tolist() for each in vectors]
    assert vectors == [[2, 1, 0], [0, 0, 1]]
    assert answer.model == "letters@7"


def test_a_model_of_another_kind_is_refused(client):
    with pytest.raises(openai.UnprocessableEntityError, match="makes image"):
        client.completions.create(model="drawer", prompt="x")
    with pytest.raises(openai.UnprocessableEntityError, match="/v1/predict"):
        client.embeddings.create(model="brightness", input=PICTURE.to_json()["data"])
    with pytest.raises(openai.NotFoundError, match="did you mean 'letters'"):
        client.embeddings.create(model="leters", input="x")


def test_a_prompt_of_several_texts_says_where_to_send_it(client_of):
    class Translator(toys.Teller):
        class Prompt(genloom.Prompt):
            source: str = ""
            target: str = ""

    loaded = genloom.LoadedModel("translator@1", Translator(), torch.nn.Identity().eval(), None)
    client = client_of(served(loaded, 0))
    answer = client.post("/v1/completions", json={"prompt": "x"})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "source, target of translator@1 each take text" in message
    assert "/v1/generate/translator" in message


def test_the_built_in_text_model_streams_character_by_character():
    trainable = TextRNN(width=16)
    data = TextRNN.Data(text=genloom.TextColumn(vocabulary=tuple("abcdefgh "), max_chars=64))
    torch.manual_seed(0)
    loaded = genloom.LoadedModel("text-rnn@1", trainable, trainable.build(data).eval(), data)
    for url in serving(create_app(LocalBackend(served(loaded, 0)))):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            asked = {"model": "text-rnn", "prompt": "abc", "max_tokens": 30, "seed": 7}
            whole = client.completions.create(**asked, temperature=0.7, top_p=0.9).choices[0]
            events = list(client.completions.create(**asked, temperature=0.7, top_p=0.9, stream=True))
            pieces = [event.choices[0].text for event in events]
            assert (len(whole.text), whole.finish_reason) == (30, "length")
            assert "".join(pieces) == whole.text
            assert [len(piece) for piece in pieces] == [1] * 30 + [0]


@pytest.mark.parametrize(
    ("path", "sent", "message"),
    [
        (
            "completions",
            {"prompt": {"a": 1}},
            "prompt = {'a': 1}: must be a text, or a list of texts; give one of them",
        ),
        ("completions", {"prompt": ["a", 1]}, "prompt.1 = 1: should be a valid string; give text"),
        (
            "completions",
            {"temperature": 7},
            "temperature = 7.0: should be less than or equal to 2; give 2.0 or less",
        ),
        (
            "completions",
            {"top_p": 0.5},
            "top_p = 0.5: the prompt of teller@4 has no such field; "
            "leave it out or give 1, or use seed, start, max_chars, temperature",
        ),
        (
            "completions",
            {"prompt": ["a"] * 20, "n": 20},
            "prompt and n ask for 400 answers: a request takes 1 to 256; send several requests",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "tool", "content": "a"}]},
            "messages.0.role = 'tool': there is no such value; give 'system', 'developer', 'user' or 'assistant'",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "messages.0.content = [{'type': 'audio'}]: part 0 is no text, and only text is read; leave it out",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "a", "contents": 1}]},
            "messages.0.contents = 1: there is no such key; did you mean 'content'?",
        ),
        (
            "chat/completions",
            {"model": None, "messages": [{"role": "user", "content": "a"}]},
            "model is missing, and 2 generators of text are served; name one of counter, teller",
        ),
        (
            "images/generations",
            {"model": "drawer", "prompt": "label=33", "n": 3},
            "label = 33: the model knows 10 classes; give 0 to 9",
        ),
        (
            "images/generations",
            {"model": "drawer", "response_format": "url"},
            "response_format = 'url': there is no such value; give 'b64_json'",
        ),
        (
            "images/edits",
            {"model": "enlarger", "image": "hello"},
            "image = 'hello': is no base64; send the file itself, in a form, or its bytes in base64",
        ),
        (
            "audio/speech",
            {"model": "speaker", "input": "a", "voice": "alloy"},
            "voice = 'alloy': the prompt of speaker@5 has no such field; "
            'leave it out or give "default", or use seed, text, speed',
        ),
    ],
)
def test_one_fault_is_one_sentence_about_what_was_sent(url, path, sent, message):
    answer = httpx.post(f"{url}/v1/{path}", json={"model": "teller"} | sent)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, message)


@pytest.mark.parametrize("query", ["async=true", "stream=true", "format=png"])
def test_a_wish_of_genlooms_own_paths_is_refused_and_not_ignored(url, query):
    answer = httpx.post(f"{url}/v1/completions?{query}", json={"model": "teller", "prompt": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, query.partition("=")[0])
    assert "ask /v1/generate" in error["message"]
    assert httpx.post(f"{url}/v1/completions?api-version=1", json={"model": "teller"}).is_success
