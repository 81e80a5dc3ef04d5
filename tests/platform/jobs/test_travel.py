"""What travels with a job: the files that its command names and the plugin, no more than the cluster takes."""

import jobs_plugin
import pytest

from genloom.errors import RequestError
from genloom_platform import certificates
from genloom_platform.jobs import travel


def test_files_that_the_command_names_travel_where_it_says(home):
    (home / "runs").mkdir()
    (home / "runs" / "a.yaml").write_text("steps: 1")
    with travel.pack(["train", "runs/a.yaml", "steps=2"], home, None, 1000) as luggage:
        assert (luggage.files / "runs" / "a.yaml").read_text() == "steps: 1"
        first = luggage.digest
    (home / "runs" / "a.yaml").write_text("steps: 3")
    with travel.pack(["train", "runs/a.yaml"], home, None, 1000) as luggage:
        assert luggage.digest != first
    with travel.pack(["train", "image-vae"], home, None, 1000) as luggage:
        assert luggage.runtime_env == {}


def test_a_file_after_an_equals_sign_and_a_folder_that_is_imported_travel_too(home):
    (home / "serve.yaml").write_text("models: []")
    for name in ("a", "b", "c", "d"):
        (home / "photos" / name).mkdir(parents=True)
        (home / "photos" / name / "1.png").write_bytes(b"x" * 300)
    with travel.pack(["serve", "--config=serve.yaml"], home, None, 1000) as luggage:
        assert (luggage.files / "serve.yaml").is_file()
        assert str(luggage) == "serve.yaml"
    words = ["data", "import", "imagefolder", "photos", "cats"]
    with travel.pack(words, home, None, 10_000) as luggage:
        assert len(list(luggage.files.rglob("*.png"))) == 4
        assert str(luggage) == "photos/a/1.png, photos/b/1.png, photos/c/1.png, 1 more files"
    with (
        pytest.raises(RequestError, match=r"too large to travel"),
        travel.pack(words, home, None, 1000),
    ):
        pass
    # A folder that happens to be called like something else stays.
    with travel.pack(["train", "photos"], home, None, 10) as luggage:
        assert luggage.files is None


def test_what_is_too_large_to_travel_is_named(home):
    (home / "big.csv").write_bytes(b"x" * 2000)
    with (
        pytest.raises(
            RequestError,
            match=r"big.csv \(2.0 kB\), and the cluster takes 1.0 kB; put them",
        ),
        travel.pack(["data", "import", "csv", "big.csv"], home, None, 1000),
    ):
        pass
    with (
        pytest.raises(RequestError, match="outside"),
        travel.pack(["train", "/etc/hosts"], home, None, 10**6),
    ):
        pass
    plugin = jobs_plugin.write(home / "plugin")
    (plugin / "src" / "acme_dots" / "weights.bin").write_bytes(bytes(range(256)) * 400)
    with (
        pytest.raises(
            RequestError, match=r"acme-dots is too large.*acme_dots/weights.bin \(.*leave them out"
        ),
        travel.pack(["train", "acme-dots"], home, plugin, 1000),
    ):
        pass


def test_a_private_key_does_not_travel(home):
    certificates.make(home / "tls", ["127.0.0.1"])
    words = ["serve", "image-vae", "--tls-cert", "tls/cert.pem", "--tls-key", "tls/key.pem"]
    with (
        pytest.raises(
            RequestError,
            match=r"tls/key.pem holds a private key.*the path that it has there: .*--tls-key=/etc",
        ),
        travel.pack(words, home, None, 10**6),
    ):
        pass
    with travel.pack(words[:4], home, None, 10**6) as luggage:
        assert (luggage.files / "tls" / "cert.pem").exists()


def test_a_path_of_the_clusters_machine_is_given_after_an_equals_sign(home):
    certificates.make(home / "tls", ["127.0.0.1"])
    key = home / "tls" / "key.pem"
    with travel.pack(["serve", "image-vae", f"--tls-key={key}"], home, None, 10**6) as luggage:
        assert luggage.files is None
    with (
        pytest.raises(RequestError, match=r"key.pem lies outside .*after an equals sign"),
        travel.pack(["serve", "image-vae", "--tls-key", str(key)], home, None, 10**6),
    ):
        pass


def test_a_folder_elsewhere_is_named_as_it_was_given(home):
    (home / "photos" / "cat").mkdir(parents=True)
    (home / "photos" / "cat" / "1.png").write_bytes(b"x")
    (home / "work").mkdir()
    for source in (str(home / "photos"), "../photos"):
        words = ["data", "import", "imagefolder", source, "cats"]
        with (
            pytest.raises(RequestError, match=f"^{source} lies outside of the working folder"),
            travel.pack(words, home / "work", None, 10**6),
        ):
            pass


def test_files_and_plugins_that_hold_a_secret_do_not_travel(home):
    hidden = {"the value of LAB_STORE": "the-store-key"}
    (home / "run.yaml").write_text("steps: 1\nkey: the-store-key\n")
    with (
        pytest.raises(
            RequestError, match=r"^run.yaml holds the value of LAB_STORE, .*`secrets`"
        ) as told,
        travel.pack(["train", "run.yaml"], home, None, 10**6, hidden),
    ):
        pass
    assert "the-store-key" not in str(told.value)
    plugin = jobs_plugin.write(home / "plugin")
    with travel.pack(["train", "acme-dots"], home, plugin, 10**6, hidden) as luggage:
        assert luggage.plugin
    module = plugin / "src" / "acme_dots" / "__init__.py"
    module.write_text(f"{module.read_text()}\nKEY = 'the-store-key'\n")
    with (
        pytest.raises(
            RequestError, match=r"^the plugin's acme_dots/__init__.py holds the value of LAB"
        ),
        travel.pack(["train", "acme-dots"], home, plugin, 10**6, hidden),
    ):
        pass
