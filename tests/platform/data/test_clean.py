"""Cleaning: each rule drops what it says, with its numbers, and nothing vanishes."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genloom import Audio, Image
from genloom_platform.data.clean import duplicates
from genloom_platform.data.clean.audio import clean_audio
from genloom_platform.data.clean.images import clean_image, near_hash
from genloom_platform.data.clean.rules import AudioRules, ImageRules, TextRules
from genloom_platform.data.clean.text import clean_text, near_signature
from genloom_platform.data.imports import import_dataset
from genloom_platform.data.item import Dropped, Item
from genloom_platform.store import Store

RNG = np.random.default_rng(0)
PROSE = "The fox was seen near the river on a cold morning, and nobody knew where it had come from. "


def noise(height, width, channels=3):
    return Image(RNG.integers(0, 256, (height, width, channels), np.uint8))


def smooth(seed, size=64):
    """A picture of large shapes, as photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [
        np.sin(2 * np.pi * (rng.uniform(0, 3) * x + rng.uniform(0, 3) * y + rng.random()))
        for _ in range(6)
    ]
    total = sum(waves)
    return Image(np.uint8(255 * (total - total.min()) / np.ptp(total))[:, :, None])


@pytest.mark.parametrize(("rules", "image", "rule"), [
    ({"min_side": 10}, noise(9, 20), "too small"),
    ({"max_side": 19}, noise(9, 20), "too large"),
    ({"max_aspect": 2}, noise(9, 20), "too long"),
    ({"mode": "rgb", "other_mode": "drop"}, noise(9, 9, 1), "wrong mode"),
    ({"min_deviation": 0.01}, Image(np.full((9, 9, 3), 7, np.uint8)), "blank"),
])  # fmt: skip
def test_a_picture_against_the_rules_is_dropped_with_the_numbers(rules, image, rule):
    dropped = clean_image(ImageRules(**rules), "image", Item("k", {"image": image}))
    assert isinstance(dropped, Dropped)
    assert dropped.rule == rule
    assert any(character.isdigit() for character in dropped.detail)


def test_pictures_are_converted_and_fitted():
    large = Item("k", {"image": noise(20, 30)}, None, {"image": b"x"})
    item = clean_image(ImageRules(mode="grey", size=(8, 6)), "image", large)
    assert item.values["image"].array.shape == (8, 6, 1)
    assert item.files == {}
    same = Item("k", {"image": noise(8, 6)}, None, {"image": b"x"})
    assert clean_image(ImageRules(mode="rgb", size=(8, 6)), "image", same) is same


@pytest.mark.parametrize(("rules", "text", "rule"), [
    ({"min_chars": 10}, "short", "too short"),
    ({"max_chars": 10}, "much too long", "too long"),
    ({"min_letters": 0.5}, "1234 5678 90 !!", "few letters"),
    ({"max_repeated_lines": 0.3}, "menu\nhome\nmenu\nhome\nmenu\nsomething", "repeated lines"),
    ({"max_repeated_words": 0.3}, "buy it now " * 30, "repeated words"),
    ({"max_compression": 5}, "click here to subscribe. " * 100, "boilerplate"),
])  # fmt: skip
def test_a_text_against_the_rules_is_dropped(rules, text, rule):
    dropped = clean_text(TextRules(**rules), "text", Item("k", {"text": text}))
    assert isinstance(dropped, Dropped)
    assert dropped.rule == rule
    kept = clean_text(TextRules(**{**rules, "max_chars": 200}), "text", Item("k", {"text": PROSE}))
    assert isinstance(kept, Item)


def test_texts_are_normalised():
    rules = TextRules(normalise="NFKC", collapse_spaces=True)
    item = clean_text(rules, "text", Item("k", {"text": " ﬁne\u0000   e\u0301 \r\n\r\n\r\n\r\n x "}))
    assert item.values["text"] == "fine é\n\nx"


@pytest.mark.parametrize(("rules", "wave", "rule"), [
    ({"min_s": 1.0}, np.ones(4000) / 2, "too short"),
    ({"max_s": 0.4}, np.ones(4000) / 2, "too long"),
    ({"min_peak": 0.1}, np.ones(4000) / 100, "silent"),
    ({"max_clipped": 0.1}, np.ones(4000), "clipped"),
])  # fmt: skip
def test_a_sound_against_the_rules_is_dropped(rules, wave, rule):
    dropped = clean_audio(AudioRules(**rules), "audio", Item("k", {"audio": Audio(wave, 8000)}))
    assert isinstance(dropped, Dropped)
    assert dropped.rule == rule


def test_quiet_ends_are_trimmed():
    wave = np.concatenate(
        [np.zeros(500), np.ones(300) / 2, np.zeros(200), np.ones(10) / 2, np.zeros(700)]
    )
    item = clean_audio(AudioRules(trim_db=40), "audio", Item("k", {"audio": Audio(wave, 8000)}))
    assert item.values["audio"].waveform.shape == (1, 510)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(0, 16), st.randoms())
def test_near_pictures_are_the_groups_that_a_comparison_of_all_pairs_finds(values, bits, random):
    hashes = np.array([value * 0x0101_0101_0101_0101 % 2**64 for value in values], np.uint64)
    rank = list(range(len(values)))
    random.shuffle(rank)
    rank = np.array(rank, np.uint64)
    dropped = duplicates.near_images(hashes, rank, bits)
    group = list(range(len(values)))
    for a in range(len(values)):
        for b in range(a):
            if bin(int(hashes[a]) ^ int(hashes[b])).count("1") <= bits:
                group = [group[b] if g == group[a] else g for g in group]
    for row in range(len(values)):
        best = min(
            (other for other in range(len(values)) if group[other] == group[row]), key=lambda o: rank[o]
        )
        assert dropped.get(row, row) == best


def test_scaled_and_recompressed_pictures_are_near_and_others_are_not():
    import io

    from PIL import Image as pil

    pictures = [smooth(seed) for seed in range(20)]
    hashes = [near_hash(picture) for picture in pictures]
    for picture, value in zip(pictures, hashes, strict=True):
        data = io.BytesIO()
        pil.fromarray(picture.array[:, :, 0]).resize((48, 48)).save(data, "jpeg", quality=60)
        assert bin(near_hash(Image.from_bytes(data.getvalue())) ^ value).count("1") <= 6
    assert min(bin(a ^ b).count("1") for i, a in enumerate(hashes) for b in hashes[:i]) > 6


def test_texts_that_differ_in_a_word_are_near_and_others_are_not():
    words = [f"word{n}" for n in RNG.integers(0, 5000, 300)]
    other = [f"word{n}" for n in RNG.integers(0, 5000, 300)]
    texts = [" ".join(words), " ".join([*words[:150], "changed", *words[151:]]), " ".join(other)]
    signatures = np.stack([near_signature(text) for text in texts])
    dropped = duplicates.near_texts(signatures, np.array([1, 0, 2], np.uint64), 0.8)
    assert dropped == {0: 1}


def test_duplicates_are_set_aside_and_the_held_out_row_stays(tmp_path):
    store = Store((tmp_path / "store").as_uri())
    for split, names in (("train", "abc"), ("test", "de")):
        for name in names:
            source = {"a": 1, "b": 2, "c": 1, "d": 2, "e": 3}[name]
            smooth(source).save(tmp_path / "p" / split / "x" / f"{name}.png")
    manifest = import_dataset(
        store, "imagefolder", str(tmp_path / "p"), "p", {"clean": {"exact_duplicates": True}}
    )
    assert manifest.splits == {"train": 1, "test": 2}
    assert manifest.quarantine.rules == {"duplicate": 2}
    table = pq.read_table(store.path(f"datasets/p/{manifest.quarantine.path}")).to_pylist()
    found = {row["key"]: row for row in table}
    assert found["train/x/b.png"]["detail"] == "as test/x/d.png"
    assert {key.rpartition("/")[2] for key in found} < {"a.png", "b.png", "c.png"}
    assert found["train/x/b.png"]["content"] == (tmp_path / "p" / "train" / "x" / "b.png").read_bytes()


def test_near_duplicate_texts_are_dropped_at_import(tmp_path):
    store = Store((tmp_path / "store").as_uri())
    rows = [PROSE * 3 + f"Number {n % 3} of the series, told again." * (n % 3) for n in range(9)]
    (tmp_path / "t.csv").write_text("text\n" + "\n".join(f'"{row}"' for row in rows))
    clean = {"text": {"near_duplicates": 0.9}}
    manifest = import_dataset(
        store, "csv", str(tmp_path / "t.csv"), "t", {"clean": clean, "split": {"test": 0}}
    )
    assert manifest.quarantine.rules["near duplicate"] >= 6
    assert sum(manifest.splits.values()) + manifest.quarantine.rows == 9
