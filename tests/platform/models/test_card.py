"""Model cards: they say what was measured and what was not, and hold their pictures."""

import base64
import io
import re
import shutil
import subprocess

import pytest
from PIL import Image

import genloom
from genloom_platform.models import card, page, samples
from genloom_platform.models.registry import Registry


@pytest.fixture
def version(versions):
    return versions.make("image-vae", "width=8", evaluated=True, log=[3.0, 2.5, 2.0])


def test_a_card_tells_of_the_model_its_data_its_training_and_its_limits(version, store):
    text = card.read(store, version)
    for words in (
        "# image-vae@1",
        "A convolutional VAE",
        "| `width` | `8` | Channels of the convolutions at full size",
        "genloom generate image-vae@1 --count 10 --prompt label=0..9",
        'genloom.connect().models["image-vae@1"]',
        "![Samples](samples/sheet.png)",
        "198 test rows of digits@",
        "| steps | 3 |",
        "at its last step | loss 2",
        version.release.dataset_digest,
        "source digits",
        "contract 1.0",
        "Speed, memory and behaviour under load were not measured.",
        "The licence of the data is not recorded",
    ):
        assert words in text, words
    assert re.search(r"\| bits_per_unit \| [\d.]+ \| [\d.]+ to [\d.]+ \|", text)


def test_the_html_holds_its_pictures_and_loads_nothing(version, store):
    html = store.read(f"{version.place}/{card.HTML}").decode()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    sizes = [Image.open(io.BytesIO(base64.b64decode(each))).size for each in pictures]
    assert sizes[0] == (524, 108)  # two rows of ten digits, 48 pixels each
    assert len(sizes) == 2
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html


def test_an_evaluation_is_added_to_the_card(version, store):
    Registry(store).set_metrics(version, {"recognised": 0.5})
    card.write(store, Registry(store).find(version.full_name))
    text = card.read(store, version)
    assert "| recognised | 0.5 | none |" in text
    assert "No interval: recognised;" in text


def test_a_card_is_saved_with_its_pictures_beside_it_or_inside(version, store, tmp_path):
    card.save(store, version, tmp_path / "out" / "card.md")
    assert (tmp_path / "out/samples/sheet.png").stat().st_size > 100
    assert (tmp_path / "out/loss.png").stat().st_size > 100
    card.save(store, version, tmp_path / "card.html")
    assert "data:image/png" in (tmp_path / "card.html").read_text()
    with pytest.raises(genloom.GenloomError, match=r"neither \.html nor \.md"):
        card.save(store, version, tmp_path / "card.pdf")


def test_samples_are_drawn_with_their_prompts(version, store):
    drawn = samples.read(store, version.place)
    assert (drawn.kind, len(drawn.examples)) == ("image", 20)
    assert drawn.examples[13].prompt == {"seed": 13, "label": 3}


def test_a_generator_that_fails_is_registered_all_the_same(versions, store, monkeypatch):
    def fail(self, model, prompts):
        raise ValueError("no pen")

    from genloom import registry

    monkeypatch.setattr(registry.load("image-vae"), "generate", fail)
    version = versions.make("image-vae", "width=8", evaluated=True)
    assert "None: ValueError: no pen." in card.read(store, version)


def test_text_from_elsewhere_cannot_break_out_of_the_page():
    hostile = "![x](../../secret.png) ![y](/etc/passwd.png) ![z](http://evil/x.png) <script>x</script>"
    html = page.to_html(f"# {hostile}\n\n[a](javascript:x)", "</title><script>", lambda file: 1 / 0)
    assert "<script>" not in html
    assert "secret" not in html
    assert "javascript" not in re.sub(r"\[a\]\(javascript:x\)", "", html)
    assert "src=" not in html


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_browser_shows_the_card_and_its_pictures(version, store):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    url = f"{store.url}/{version.place}/{card.HTML}"
    done = subprocess.run(
        ["chromium", *options, "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "<h1>image-vae@1</h1>" in done.stdout
