"""What is to be served, as a file and a command line say it."""

import pytest
import yaml

from genloom.errors import InvalidConfig, RequestError
from genloom_platform.cli import serve as command
from genloom_platform.serve import application, keys, wanted
from genloom_platform.serve.wanted import Replicas

FILE = """
models:
  - image-vae@champion
  - model: char-rnn@7
    replicas: 0-4
    cpus: 0.5
    canary: {version: char-rnn@8, share: 5%}
    shadow: {version: char-rnn@9, share: 1}
port: 8001
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text(FILE)
    return path


def test_a_file_says_it_short_or_in_full(file):
    asked = wanted.read(file)
    first, second = asked.models
    assert (first.model, first.name, first.replicas) == ("image-vae@champion", "image-vae", Replicas())
    assert (second.replicas.min, second.replicas.max) == (0, 4)
    assert second.canary
    assert second.canary.share == 0.05
    assert second.references == ["char-rnn@7", "char-rnn@8", "char-rnn@9"]
    assert (asked.host, asked.port) == ("127.0.0.1", 8001)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"models": []}, "models"),
        ({"models": ["a"], "colour": 1}, "colour"),
        ({"models": ["a", "a"]}, "named twice"),
        ({"models": [{"model": "a", "replicas": "4-1"}]}, "fewest and the most"),
        ({"models": [{"model": "a", "replicas": "many"}]}, "give it as in 2, 1-4 or 0-4"),
        ({"models": [{"model": "a", "replicas": "-1"}]}, "give it as in 2, 1-4 or 0-4"),
        (
            {"models": [{"model": "a", "canary": {"version": "b@1"}}]},
            "are versions of a; name one, as in a@7",
        ),
        ({"models": [{"model": "a", "canary": {"version": "a@2", "share": "200%"}}]}, "share"),
        ({"models": [{"model": "a", "canary": {"version": "a@2", "share": "some%"}}]}, "share"),
        ({"models": [{"model": "a@1", "canary": {"version": "a@3"}}, "a@2"]}, "no canary or shadow"),
        ({"models": [{"model": "a", "canary": {"version": "a@2", "share": 5}}]}, "write 5% or 0.05"),
        ({"models": ["a"], "port": 0}, "port"),
        ({"models": [{"model": "a", "gpus": 1.5}]}, "whole GPUs, or a part of one"),
        ({"models": [{"model": "a", "speed": {"device": "cuda"}}]}, "the replicas have no GPU"),
        ({"models": [{"model": "a", "gpus": 1, "speed": {"device": "cpu"}}]}, "nothing would use them"),
        ({"models": [{"model": "a", "gpus": 1, "speed": {"precision": "int8"}}]}, "give bf16 on a GPU"),
        ({"models": [{"model": "a", "resources": {"L4": 0}}]}, "resources"),
        ({"models": [{"model": "a", "pool": "p"}]}, "pool = p: there is none"),
        ({"models": ["a"], "pools": {"p": {}}}, "no model is in it"),
        ({"models": [{"model": "a", "pool": "p"}], "pools": {"p": {"hold": 0}}}, "hold"),
        (
            {"models": [{"model": "a", "pool": "p", "cpus": 2}], "pools": {"p": {}}},
            "say it of the pool",
        ),
        (
            {"models": [{"model": "a", "pool": "p", "canary": {"version": "a@2"}}], "pools": {"p": {}}},
            "replicas of its own for the trial",
        ),
        (
            ["a"],
            "it = .*: must be a dictionary with named fields; known are cors, host, ingress, models, pools",
        ),
    ],
)
def test_what_is_wrong_is_told(values, said):
    with pytest.raises(InvalidConfig, match=said) as error:
        wanted.checked(values, "here")
    assert len(error.value.problems) == 1


def test_a_file_that_is_no_yaml_is_told(tmp_path):
    (tmp_path / "bad.yaml").write_text("models: [")
    with pytest.raises(RequestError, match=r"bad\.yaml: it cannot be read"):
        wanted.read(tmp_path / "bad.yaml")
    with pytest.raises(RequestError, match=r"none\.yaml"):
        wanted.read(tmp_path / "none.yaml")


def test_a_command_line_says_the_same_as_a_file(file):
    trials = command._trials("char-rnn@8", "5%", "char-rnn@9")
    said = command._wanted(
        ["char-rnn@7"], None, {"replicas": "0-4", "cpus": 0.5}, trials, {"port": 8001}
    )
    assert said.models[0] == wanted.read(file).models[1]
    assert said.port == 8001
    assert command._wanted([], file, {}, {}, {"port": 9000}).port == 9000


def test_models_share_a_pool_by_a_file_or_a_command_line(tmp_path):
    room = {"replicas": "1-2", "cpus": 0.5}
    said = command._wanted(["a", "b@2"], None, room, {}, {"port": 8001}, hold=3)
    file = tmp_path / "serve.yaml"
    file.write_text(
        "models: [{model: a, pool: shared}, {model: b@2, pool: shared}]\n"
        "pools: {shared: {hold: 3, replicas: 1-2, cpus: 0.5}}\nport: 8001\n"
    )
    assert said == wanted.read(file)
    assert said.cpus == 2 * 0.5
    assert command._wanted([], file, {}, {}, {"port": 8001}) == said  # told anew, with all defaults
    with pytest.raises(RequestError, match="leave out"):
        command._wanted([], file, {}, {}, {}, hold=3)


def test_words_that_do_not_go_together_are_refused(file):
    with pytest.raises(RequestError, match="--canary"):
        command._trials(None, "5%", None)
    with pytest.raises(RequestError, match="name it too"):
        command._wanted(["a"], None, {}, command._trials("b@1", None, None), {})
    with pytest.raises(RequestError, match="leave out"):
        command._wanted(["a"], file, {}, {}, {})
    with pytest.raises(RequestError, match="no model was named"):
        command._wanted([], None, {}, {}, {})


def test_the_room_that_a_change_needs_is_counted():
    asked = wanted.checked({"models": [{"model": "a", "cpus": 0.5, "replicas": "1-4"}, "b"]}, "here")
    assert asked.cpus == 2 + 1 + 2


def test_the_file_for_serve_deploy_says_the_same_and_holds_no_key(file):
    from ray.serve.schema import ServeDeploySchema

    key = "a-key-of-this-test-alone-4711"
    text = application.as_ray_serve(wanted.read(file), key)
    schema = ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert key not in text
    (made,) = schema.applications
    assert made.import_path == "genloom_platform.serve.application:build"
    args = dict(made.args)
    lock = args.pop("lock")
    opens = keys.Lock(bytes.fromhex(lock["salt"]), bytes.fromhex(lock["digest"])).opens
    assert opens(key.encode())
    assert not opens(b"another")
    assert wanted.checked(args, "args").models == wanted.read(file).models


def test_no_file_is_made_for_an_endpoint_that_would_be_open(file, monkeypatch, tmp_path):
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    monkeypatch.setenv("GENLOOM_STORE", (tmp_path / "store").as_uri())  # it has no key
    open_to_all = wanted.read(file).model_copy(update={"host": "0.0.0.0"})
    with pytest.raises(RequestError, match=keys.VARIABLE):
        application.as_ray_serve(open_to_all, None)
    with pytest.raises(RequestError, match=keys.VARIABLE):
        application.build({"models": ["a"], "host": "0.0.0.0"})
