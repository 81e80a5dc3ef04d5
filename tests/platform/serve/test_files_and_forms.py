"""Media that come as forms and go as files, problems by RFC 9457, and the path of one model."""

import io

import numpy as np
import pytest
import soundfile
from local_endpoint import LocalBackend

import genloom
from genloom_platform.serve.app import create_app

PICTURE = genloom.Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


@pytest.fixture
def client(client_of, all_models):
    return client_of(*all_models)


def test_a_models_own_path_takes_its_prompt(client):
    answer = client.post("/v1/generate/drawer", json={"seed": 5, "label": 3}).json()
    many = client.post(
        "/v1/generate", json={"model": "drawer", "prompts": [{"seed": 5, "label": 3}]}
    ).json()
    assert answer == many
    assert (answer["model"], answer["samples"][0]["seed"]) == ("drawer@1", 5)
    predicted = client.post("/v1/predict/letters@7", json={"text": "ab"}).json()
    assert predicted["predictions"][0]["vector"] == [1, 1, 0]


def test_a_form_holds_files_and_fields(client):
    answer = client.post(
        "/v1/generate/enlarger",
        data={"factor": "3", "seed": "4"},
        files={"image": ("p.png", PICTURE.to_bytes(), "image/png")},
    )
    assert answer.status_code == 200, answer.text
    (sample,) = answer.json()["samples"]
    assert sample["prompt"] == {"seed": 4, "factor": 3}
    assert genloom.Image.from_json(sample["sample"]).array.shape == (12, 12, 3)


def test_a_text_in_a_form_stays_a_text(client):
    answer = client.post("/v1/generate/teller", files={"start": (None, "12"), "max_chars": (None, "4")})
    assert answer.json()["samples"][0]["prompt"]["start"] == "12"


@pytest.mark.parametrize("asked", ["png", "webp"])
@pytest.mark.parametrize("by_header", [False, True])
def test_one_sample_comes_as_a_file(client, asked, by_header):
    query, headers = ("", {"Accept": f"image/{asked}"}) if by_header else (f"?format={asked}", {})
    answer = client.post(f"/v1/generate/drawer{query}", json={"seed": 5}, headers=headers)
    assert answer.headers["content-type"] == f"image/{asked}"
    assert (answer.headers["genloom-model"], answer.headers["genloom-seed"]) == ("drawer@1", "5")
    picture = genloom.Image.from_bytes(answer.content)
    plain = client.post("/v1/generate/drawer", json={"seed": 5}).json()["samples"][0]["sample"]
    assert (picture.array[:, :, :1] == genloom.Image.from_json(plain).array).all()


@pytest.mark.parametrize("asked", ["wav", "flac", "ogg"])
def test_a_sound_comes_as_a_file(client, asked):
    answer = client.post(f"/v1/generate/speaker?format={asked}", json={"text": "abc"})
    waveform, rate_hz = soundfile.read(io.BytesIO(answer.content))
    assert (rate_hz, len(waveform)) == (16000, 4960)
    assert answer.headers["content-type"] == f"audio/{asked}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("generate/drawer?format=wav", "give png or webp"),
        ("generate/drawer?stream=maybe", "true or false"),
        ("generate/drawer?strem=true", "takes stream and format"),
        ("generate/drawer?stream=true&format=png", "leave out one"),
        ("predict/letters?stream=true", "predictions are JSON"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(client, path, words):
    answer = client.post(f"/v1/{path}", json={"seed": 1})
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]


def test_a_file_holds_one_sample(client):
    answer = client.post("/v1/generate?format=png", json={"model": "drawer", "prompts": [{}, {}]})
    assert answer.status_code == 422
    assert "send one prompt" in answer.json()["error"]["message"]


def test_problems_are_told_by_rfc_9457_where_a_caller_accepts_that(client, client_of, all_models):
    headers = {"Accept": "application/json, application/problem+json"}
    for path, status in (("/v1/generate/drawr", 404), ("/nothing", 404), ("/v1/generate/drawer", 422)):
        answer = client.post(path, json={"label": 55}, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert set(told) == {"type", "title", "status", "detail", "code", "param"}
        assert told["status"] == status
    locked = client_of(*all_models, key="k" * 32)
    told = locked.get("/v1/models", headers=headers)
    assert (told.status_code, told.json()["title"]) == (401, "Unauthorized")
    assert told.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("sent", "content_type"),
    [
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_a_broken_form_is_told(client, sent, content_type):
    answer = client.post("/v1/generate/enlarger", content=sent, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")


def test_a_form_of_too_many_parts_is_refused(client):
    parts = [("x", (None, "1"))] * 400
    answer = client.post("/v1/generate/enlarger", files=parts)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")


def test_each_model_has_a_path_of_its_own_in_the_description(all_models):
    paths = create_app(LocalBackend(*all_models)).openapi()["paths"]
    post = paths["/v1/generate/teller"]["post"]
    json_body = post["requestBody"]["content"]["application/json"]
    assert json_body["schema"] == {"$ref": "#/components/schemas/teller_4.Prompt"}
    assert json_body["example"] == {"seed": 7, "start": "abc", "max_chars": 12, "temperature": 1}
    assert set(post["responses"]) == {
        "200", "400", "401", "403", "404", "405", "408", "413", "415", "422", "429", "500", "503", "504",
    }  # fmt: skip
    assert "/v1/generate/{model}" not in paths


@pytest.mark.parametrize(
    ("sent", "param", "message"),
    [
        ({"label": -1}, "label", "label = -1: should be greater than or equal to 0; give 0 or more"),
        ({"label": 55}, None, "label = 55: the model knows 10 classes; give 0 to 9"),
        ({"like": {}}, "like", "like = {}: must be base64, or an object with it as 'data'; "
                               "send the file itself, in a form, or its bytes in base64"),
        ({"lable": 5}, "lable", "lable = 5: there is no such key; did you mean 'label'?"),
    ],
)  # fmt: skip
def test_a_fault_of_a_lone_prompt_names_no_place_in_a_list(client, sent, param, message):
    error = client.post("/v1/generate/drawer", json=sent).json()["error"]
    assert (error["param"], error["message"]) == (param, message)
    listed = client.post("/v1/generate", json={"model": "drawer", "prompts": [sent]}).json()["error"]
    assert listed["message"].startswith("prompts.0")


def test_a_field_that_a_lone_prompt_lacks_is_told_as_it_is_written(client):
    error = client.post("/v1/predict/brightness", json={}).json()["error"]
    assert error["message"] == "image: is required and missing; add image=…"
