"""The routes, with real models in this process."""

import asyncio
import base64
import json
import re
import resource
import struct
import time
import zlib
from http.client import HTTPConnection

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from local_endpoint import LocalBackend, serving

import genloom
from genloom_platform.serve import asking, body, docs, guard
from genloom_platform.serve.app import create_app

KEY = "k" * 32
WHITE = genloom.Image(np.full((4, 4, 3), 255, np.uint8)).to_json()


def ask(client, *prompts, model="drawer", **kwargs):
    return client.post("/v1/generate", json={"model": model, "prompts": list(prompts)}, **kwargs)


def error_of(answer) -> dict:
    body = answer.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    return body["error"]


def test_a_sample_comes_with_its_seed_and_its_prompt(client):
    answer = ask(client, {"label": 3, "seed": 1})
    assert answer.status_code == 200
    assert answer.json()["model"] == "drawer@1"
    (sample,) = answer.json()["samples"]
    assert sample["seed"] == 1
    assert sample["prompt"] == {"seed": 1, "label": 3, "like": None}
    assert sample["sample"]["media_type"] == "image/png"
    assert genloom.Image.from_json(sample["sample"]).array.shape == (8, 8, 1)


def test_a_drawn_seed_gives_the_sample_again(client):
    first = ask(client, {}).json()["samples"][0]
    again = ask(client, {"seed": 5}, {"seed": first["seed"]}).json()["samples"]
    assert again[1]["sample"] == first["sample"]
    assert again[0]["sample"] != first["sample"]


def test_media_of_a_prompt_are_read_and_not_sent_back(client):
    sample = ask(client, {"seed": 1, "like": WHITE}).json()["samples"][0]
    assert sample["prompt"] == {"seed": 1, "label": None}


def test_texts_come_as_strings(client):
    assert ask(client, {}, {}, model="counter").json()["samples"][0]["sample"] == "2"


def test_predictions_come_in_order(client):
    black = genloom.Image(np.zeros((4, 4, 3), np.uint8)).to_json()
    prompts = [{"image": WHITE}, {"image": black["data"]}]
    answer = client.post("/v1/predict", json={"model": "brightness", "prompts": prompts})
    assert answer.json() == {
        "model": "brightness@3",
        "predictions": [{"kind": "value", "value": 1.0}, {"kind": "value", "value": 0.0}],
    }


def test_the_only_model_of_a_kind_need_not_be_named(client):
    answer = client.post("/v1/predict", json={"prompts": [{"image": WHITE}]})
    assert answer.json()["model"] == "brightness@3"


def test_models_are_listed_as_openai_lists_them(client):
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    assert answer["data"][0] == {
        "id": "drawer",
        "object": "model",
        "created": 1700000000,
        "owned_by": "genloom",
        "version": "1",
        "run": None,
        "kind": "generator",
        "makes": "image",
    }
    assert answer["data"][2]["kind"] == "predictor"
    assert answer["data"][2]["makes"] == "brightness"


def test_two_versions_of_a_model_go_by_name_and_version(client_of, drawer):
    other = type(drawer)(
        genloom.LoadedModel("drawer@2", drawer.loaded.trainable, drawer.loaded.module, None), 0
    )
    client = client_of(drawer, other)
    assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == [
        "drawer@1",
        "drawer@2",
    ]
    assert ask(client, {}, model="drawer@2").json()["model"] == "drawer@2"
    assert error_of(ask(client, {}, model="drawer"))["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "sent", "status", "code", "words"),
    [
        ("generate", b'{"model": ', 400, "invalid_json", "EOF"),
        ("generate", b"", 400, "invalid_json", "EOF"),
        ("generate", b'{"x": NaN}', 400, "invalid_json", "expected"),
        ("generate", b"\xff", 400, "invalid_json", "line 1"),
        ("generate", b"[" * 100_000, 400, "invalid_json", "recursion"),
        ("generate", b"[]", 422, "invalid_request", "the body must be an object"),
        ("completions", b"7", 422, "invalid_request", "the body must be an object"),
        ("generate", b'{"model": "drawer"}', 422, "invalid_request", "prompts: is required"),
        (
            "generate",
            b'{"model": "drawer", "prompt": [], "prompts": 3}',
            422,
            "invalid_request",
            "2 errors",
        ),
        ("generate", b'{"model": "drawer", "prompts": []}', 422, "invalid_request", "1 to 256"),
        (
            "generate",
            b'{"model": "drawer", "prompts": [%s{}]}' % (b"{}," * 256),
            422,
            "invalid_request",
            "257",
        ),
        ("generate", b'{"model": "drawr", "prompts": [{}]}', 404, "model_not_found", "'drawer'?"),
        ("generate", b'{"model": "zzzzz", "prompts": [{}]}', 404, "model_not_found", "/v1/models"),
        ("generate", b'{"prompts": [{}]}', 422, "missing_model", "drawer, counter"),
        ("generate", b'{"model": "brightness", "prompts": [{}]}', 422, "wrong_kind", "/v1/predict"),
        ("predict", b'{"model": "drawer", "prompts": [{}]}', 422, "wrong_kind", "/v1/generate"),
        (
            "generate",
            b'{"model": "drawer", "prompts": [{"label": 55}]}',
            422,
            "invalid_prompt",
            "give 0 to 9",
        ),
        (
            "generate",
            b'{"model": "drawer", "prompts": [{"label": -1}]}',
            422,
            "invalid_prompt",
            "0 or more",
        ),
        (
            "generate",
            b'{"model": "drawer", "prompts": [{"lable": 1}]}',
            422,
            "invalid_prompt",
            "'label'?",
        ),
        ("generate", b'{"model": "drawer", "prompts": [7]}', 422, "invalid_prompt", "dictionary"),
        (
            "generate",
            b'{"model": "drawer", "prompts": [{"label": 8}]}',
            422,
            "invalid_prompt",
            "give 9",
        ),
        ("predict", b'{"prompts": [{"image": "AAAA"}]}', 422, "invalid_prompt", "not a PNG, JPEG"),
        ("predict", b'{"prompts": [{"image": "*"}]}', 422, "invalid_prompt", "base64"),
        ("nothing", b"{}", 404, "not_found", "/docs"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client, path, sent, status, code, words):
    answer = client.post(f"/v1/{path}", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert error_of(answer)["code"] == code
    assert words in error_of(answer)["message"]


def test_all_that_is_wrong_is_listed_at_once(client):
    prompts = [{"label": "x", "seed": -1}, {}, {"lable": 3}, {"label": 12}]
    error = error_of(ask(client, *prompts))
    for words in ("prompts.0.label", "prompts.0.seed", "prompts.2.lable", "prompts.3: label = 12"):
        assert words in error["message"]
    assert "prompts.1" not in error["message"]
    assert error["param"].startswith("prompts.0.")


def test_an_error_repeats_no_pages_of_what_was_sent(client):
    prompts = [{"like": "A" * 100_000}] * 200
    answer = ask(client, *prompts)
    assert "180 more" in error_of(answer)["message"]
    assert len(answer.text) < 10_000


def test_another_method_is_refused_with_the_right_one(client):
    answer = client.get("/v1/generate")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "POST" in error_of(answer)["message"]


def test_another_type_than_json_is_refused(client):
    for headers in ({"Content-Type": "text/plain"}, {}):
        answer = client.post("/v1/generate", content=b'{"prompts": [{}]}', headers=headers)
        assert answer.status_code == 415
        assert "application/json" in error_of(answer)["message"]


def test_a_large_body_is_refused_before_it_is_read_whole(client_of, drawer, monkeypatch):
    monkeypatch.setattr(body, "MAX_BODY_BYTES", 1000)
    app = client_of(drawer).app

    def read(headers: list[tuple[bytes, bytes]]) -> tuple[int, int]:
        """The answer's status, and how many pieces of 100 bytes were read of 1,000."""
        pieces, sent = 0, []

        async def receive():
            nonlocal pieces
            pieces += 1
            return {"type": "http.request", "body": b" " * 100, "more_body": pieces < 1000}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/generate",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        asyncio.run(app(scope, receive, send))
        assert b"body_too_large" in sent[1]["body"]
        return sent[0]["status"], pieces

    assert read([(b"content-length", b"100000")]) == (413, 0)
    assert read([]) == (413, 11)


def test_the_bodies_of_all_requests_are_bounded_together(client_of, drawer, monkeypatch):
    monkeypatch.setattr(body, "MAX_HELD_BYTES", 2000)
    client = client_of(drawer)
    for _ in range(10):  # what a request held is free again after it, also where it was refused
        assert ask(client, {"seed": 1}, {"seed": 2}).status_code == 200
        answer = ask(client, *[{"seed": 1}] * 250)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"


def test_a_body_that_does_not_arrive_is_given_up(client_of, drawer, monkeypatch):
    monkeypatch.setattr(body, "TIMEOUT_S", 0.01)

    async def slowly(request):
        await asyncio.sleep(10)

    monkeypatch.setattr(body, "_collect", slowly)
    answer = ask(client_of(drawer), {})
    assert (answer.status_code, error_of(answer)["code"]) == (408, "request_timeout")


def bomb(side: int) -> str:
    """A PNG of some hundred bytes that says it is a square of that side."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pieces = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in pieces
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


@pytest.mark.parametrize("side", [9_000, 50_000])
def test_a_small_file_that_says_it_is_a_huge_picture_is_not_decoded(client, side):
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = ask(client, *[{"like": bomb(side)}] * 20)
    assert answer.status_code == 422
    assert "has over 64 million pixels, the most that are decoded" in error_of(answer)["message"]
    assert time.monotonic() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_picture_that_is_cut_short_is_told(client):
    whole = base64.b64decode(WHITE["data"])
    answer = ask(client, {"like": base64.b64encode(whole[:45]).decode()})
    assert answer.status_code == 422
    assert "not a" in error_of(answer)["message"]


def test_a_body_that_trickles_in_is_given_up(all_models, monkeypatch):
    """Over a real socket: a byte now and then keeps no request alive."""
    monkeypatch.setattr(body, "TIMEOUT_S", 0.5)
    server = serving(create_app(LocalBackend(*all_models)))
    url = next(server)
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/v1/generate/drawer")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    began = time.monotonic()
    for _ in range(4):
        connection.send(b" ")
        time.sleep(0.1)
    answer = connection.getresponse()
    assert (answer.status, time.monotonic() - began < 2) == (408, True)
    connection.close()
    next(server, None)


def test_a_model_that_does_not_answer_is_given_up(client_of, drawer, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_TIMEOUT_S", 0.01)

    class Slow:
        def models(self):
            return [drawer.card()]

        async def answer(self, model, prompts):
            await asyncio.sleep(10)

    answer = ask(client_of(backend=Slow()), {})
    assert (answer.status_code, error_of(answer)["code"]) == (504, "answer_timeout")


def test_a_failure_tells_nothing_of_the_inside(client, caplog):
    answer = ask(client, {"label": 7})
    assert answer.status_code == 500
    message = error_of(answer)["message"]
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    number = message.rsplit(" ", 1)[1]
    assert number in caplog.text
    assert "secret inside" in caplog.text


def test_too_many_requests_at_once_are_refused(client, monkeypatch):
    monkeypatch.setattr(guard, "MAX_REQUESTS", 0)
    answer = ask(client, {})
    assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200


def test_bodies_that_are_still_arriving_keep_nobody_out(all_models, monkeypatch):
    monkeypatch.setattr(guard, "MAX_REQUESTS", 1)
    monkeypatch.setattr(guard, "MAX_OPEN", 5)
    server = serving(create_app(LocalBackend(*all_models)))
    url = next(server)
    slow = [HTTPConnection(url.removeprefix("http://"), timeout=10) for _ in range(5)]
    for connection in slow:
        connection.putrequest("POST", "/v1/generate/drawer")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "2")
        connection.endheaders()
        connection.send(b"{")
        if connection is slow[3]:
            time.sleep(0.2)
            assert httpx.post(f"{url}/v1/generate/drawer", json={}).status_code == 200
    time.sleep(0.2)
    assert httpx.post(f"{url}/v1/generate/drawer", json={}).json()["error"]["code"] == "overloaded"
    for connection in slow:
        connection.send(b"}")
        assert connection.getresponse().status == 200
        connection.close()
    next(server, None)


def test_with_a_key_everything_but_health_asks_for_it(client_of, drawer):
    client = client_of(drawer, key=KEY)
    for path in ("/healthz", "/-/healthz"):
        assert client.get(path).status_code == 200
    for path in ("/openapi.json", *docs.PATHS):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/generate"),
        ("POST", "/v1/predict"),
        ("GET", "/x"),
    ):
        answer = client.request(method, path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(answer)["code"] == "missing_api_key"
        assert error_of(answer)["type"] == "authentication_error"


@pytest.mark.parametrize(
    "header", [f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer é", f"Basic {KEY}", "Bearer", KEY]
)
def test_a_wrong_key_opens_nothing(client_of, drawer, header):
    client = client_of(drawer, key=KEY)
    for _ in range(2):  # before and after the right key was seen
        answer = ask(client, {}, headers={"Authorization": header.encode()})
        assert answer.status_code == 401
        assert KEY not in answer.text
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_the_right_key_opens(client_of, drawer):
    client = client_of(drawer, key=KEY)
    for scheme in ("Bearer", "bearer"):
        assert ask(client, {}, headers={"Authorization": f"{scheme} {KEY}"}).status_code == 200


def test_an_open_endpoint_answers_to_names_of_this_machine_only(client_of, drawer):
    client = client_of(drawer)
    for host in (
        "evil.example",
        "evil.example:8000",
        "192.168.1.9",
        "localhost.evil.example",
        "[",
        "127.0.0.1@x",
    ):
        answer = client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == 403, host
        assert error_of(answer)["code"] == "host_not_allowed"
    for host in ("localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "x.localhost"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200, host
    locked = client_of(drawer, key=KEY)
    assert locked.get("/healthz", headers={"Host": "models.acme.example"}).status_code == 200


def test_no_other_origin_is_allowed(client):
    answer = client.options(
        "/v1/generate",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in ask(client, {}, headers={"Origin": "https://x"}).headers


def test_a_page_that_may_ask_reads_what_made_a_file_and_may_end_its_jobs(drawer):
    app = create_app(LocalBackend(drawer), origins=["https://app.example"])
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "DELETE"}
    assert client.options("/v1/jobs/job_1", headers=asks).status_code == 200
    answer = client.post("/v1/generate/drawer?format=png", json={"seed": 3}, headers=asks)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    shown = answer.headers["access-control-expose-headers"].split(", ")
    assert {"Genloom-Model", "Genloom-Seed", "X-Request-ID", "Retry-After"} <= set(shown)


def references(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            elif name == "mapping":
                yield from inner.values()
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_description_holds_the_prompt_of_each_model(client):
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    for reference in references(described):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    request = described["paths"]["/v1/generate"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert request["discriminator"]["propertyName"] == "model"
    assert request["discriminator"]["mapping"]["drawer"] == "#/components/schemas/drawer_1.Request"
    assert request["discriminator"]["mapping"]["drawer@1"] == "#/components/schemas/drawer_1.Request"
    assert len(request["oneOf"]) == 2
    assert schemas["drawer_1.Request"]["required"] == ["model", "prompts"]
    assert schemas["drawer_1.Request"]["properties"]["prompts"]["maxItems"] == 256
    label = schemas["drawer_1.Prompt"]["properties"]["label"]
    assert label["description"] == "Which digit; any where none is given."
    assert {"maximum": 99, "minimum": 0, "type": "integer"} in label["anyOf"]
    assert "securitySchemes" not in described["components"]


def test_the_only_model_of_a_route_is_optional_in_its_description(client):
    described = client.get("/openapi.json").json()
    request = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert request == {"$ref": "#/components/schemas/brightness_3.Request"}
    assert described["components"]["schemas"]["brightness_3.Request"]["required"] == ["prompts"]


def test_a_described_error_is_the_answered_one(client):
    described = client.get("/openapi.json").json()
    for path in described["paths"].values():
        for operation in path.values():
            assert "default" not in operation["responses"]
            for status in set(operation["responses"]) - {"200"}:
                assert "ErrorAnswer" in json.dumps(operation["responses"][status])
                assert "ProblemAnswer" in json.dumps(operation["responses"][status])


def test_who_has_signed_in_at_the_page_may_read_the_description_and_ask_nothing(client_of, drawer):
    client = client_of(drawer, key=KEY)
    assert "Sign in" in client.get("/docs").text
    assert client.post("/login", data={"key": KEY}, follow_redirects=False).status_code == 303
    for path in ("/openapi.json", *docs.PATHS):
        assert client.get(path).status_code == 200
    assert client.get("/v1/models").status_code == 401
    assert client.post("/v1/generate", json={"prompts": [{}]}).status_code == 401


def test_the_description_asks_for_the_key_where_one_is_set(client_of, drawer):
    shown = {"Authorization": f"Bearer {KEY}"}
    described = client_of(drawer, key=KEY).get("/openapi.json", headers=shown).json()
    assert described["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    assert described["paths"]["/v1/generate"]["post"]["security"] == [{"key": []}]
    assert "security" not in described["paths"]["/healthz"]["get"]


def test_the_page_names_nothing_that_another_host_sends(client):
    page = client.get("/docs").text
    named = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)
    assert set(named) == {*docs.PATHS - {docs.PATH}, "/openapi.json"}
    for path in named:
        assert len(client.get(path).content) > 500
    assert client.get("/docs/other.js").status_code == 404


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/v1/generate", b'{"prompts": [%s]}' % b",".join([b"[]"] * 3_000_000), 413),
        ("/v1/generate/drawer", b'{"label": [%s]}' % b",".join([b'"\\","'] * 2_500_000), 413),
        ("/v1/generate/drawer", b"{%s}" % b",".join(b'"k%d": 0' % n for n in range(400_000)), 422),
        ("/v1/completions", b'{"model": "teller", "prompt": [%s""], "n": 256}' % (b'"",' * 400_000), 422),
        ("/v1/embeddings", b'{"input": [%s""]}' % (b'"",' * 400_000), 422),
        ("/v1/chat/completions", b'{"model": "teller", "messages": [%s]}' % b",".join([b"0"] * 400_000), 422),
        ("/v1/images/generations", b'{"model": "drawer", "prompt": "\'%s"}' % (b"a" * 1_000_000), 422),
    ],
)  # fmt: skip
def test_a_body_that_unfolds_to_much_is_refused_at_once(client_of, all_models, path, sent, status):
    client = client_of(*all_models)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    answer = client.post(path, content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert len(error_of(answer)["message"]) < 1000
    assert time.monotonic() - began < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_long_text_is_no_long_list(client_of, all_models):
    start = 'She said: "no, no, no". ' * 200_000
    answer = client_of(*all_models).post("/v1/generate/teller", json={"start": start})
    assert answer.status_code == 422
    assert f"must have at most 1000 characters, and has {len(start)}" in error_of(answer)["message"]
