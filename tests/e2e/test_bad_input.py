"""Wrong requests, as a person meets them: one clear message, the right status, no traceback."""

import pytest

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("words", "status", "messages"), [
    (["train", "image-vea", "--data", "digits"], 2, ["did you mean 'image-vae'"]),
    (["train", "image-vae", "--data", "digit"], 2, ["did you mean 'digits'"]),
    (["train", "image-vae", "--data", "fox"], 2, ["'image' of kind image", "it lacks it"]),
    (["train", "image-vae", "stepz=3", "latent=-1", "steps=0", "--data", "digits"], 2,
     ["3 errors", "generator.stepz", "generator.latent = -1", "steps = 0"]),
    (["train"], 2, ["name a generator or a YAML file"]),
    (["train", "--resume", "nothing"], 2, ["there is no run 'nothing'"]),
    (["finetune", "image-classifier", "--data", "digits"], 2, ["there is no model 'image-classifier'"]),
    (["finetune"], 2, ["Missing argument 'MODEL'"]),
    (["data", "show", "digit"], 2, ["did you mean 'digits'"]),
    (["data", "import", "digit"], 2, ["did you mean 'digits'"]),
    (["data", "import", "text", "/no/such/file"], 2, ["does not exist"]),
    (["data", "import", "digits", "passage=3"], 2, ["passage = 3: there is no such key"]),
    (["models", "show", "image-vae"], 2, ["there is no model 'image-vae'"]),
    (["evaluate", "image-vae"], 2, ["there is no model 'image-vae'"]),
    (["generate", "image-vae"], 2, ["there is no model 'image-vae'"]),
    (["serve", "image-vae"], 2, ["there is no model 'image-vae'"]),
    (["serve", "image-vae", "--host", "0.0.0.0"], 2, ["GENLOOM_API_KEY"]),
    (["runs", "show", "x"], 2, ["there is no run 'x'"]),
    (["plugins", "check", "image-vea"], 2, ["did you mean 'image-vae'"]),
    (["plugins", "new", "image-vae", "--kind", "image"], 2, ["image-vae"]),
    (["plugins", "new", "x-y", "--kind", "imag"], 2, ["did you mean 'image'"]),
    (["generate", "x", "--key", "k" * 20], 2, ["No such option"]),
    (["generate", "x", "--sheet", "a.jpg"], 2, ["it is a PNG; name it a.png"]),
    (["serve", "image-vae", "--replicas", "-1"], 2, ["has 1 error:", "give it as in 2, 1-4 or 0-4"]),
    (["generate", "x", "--endpoint", "http://127.0.0.1:9"], 1, ["did not answer"]),
    (["--store", "ftp://x", "data", "list"], 2, ["neither file"]),
    (["data", "lst"], 2, ["No such command"]),
])  # fmt: skip
def test_a_wrong_request_is_one_clear_message(genloom_command, digits_store, words, status, messages):
    before = digits_store.names("runs")
    done = genloom_command(*words, store=digits_store.url)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert all(message in said for message in messages), said
    assert digits_store.names("runs") == before


def test_a_store_that_cannot_be_written_is_told(genloom_command, tmp_path):
    (tmp_path / "file").write_text("")
    done = genloom_command("data", "import", "digits", store=(tmp_path / "file" / "store").as_uri())
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(genloom_command):
    assert "Traceback" in genloom_command("data", "show", "x", "--debug").stderr


def test_an_empty_store_says_what_to_do_next(genloom_command):
    for words, hint in [
        (["data", "list"], "genloom data import digits"),
        (["runs", "list"], "genloom train"),
        (["models", "list"], "genloom train"),
    ]:
        done = genloom_command(*words)
        assert done.returncode == 0
        assert hint in done.stdout
