"""Small sources in the layouts as published, each made by the format's reference writer or by its specification.

`SOURCES` is format → (function that makes it in a folder and returns its path, rows, columns).
"""

import bz2
import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import mido
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import soundfile
from PIL import Image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 4, 3, 32, 32), np.uint8)
LABELS = RNG.integers(0, 10, (6, 4))


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def cifar10(folder):
    path = folder / "cifar-10-binary.tar.gz"
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    with tarfile.open(path, "w:gz") as archive:
        for name, pixels, labels in zip(names, PIXELS, LABELS, strict=True):
            records = np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(4, -1)], 1)
            add(archive, f"cifar-10-batches-bin/{name}", records.tobytes())
    return path


def cifar100(folder):
    path = folder / "cifar-100-python.tar.gz"
    fine, coarse = [f"fine{n:02d}" for n in range(100)], [f"coarse{n:02d}" for n in range(20)]
    with tarfile.open(path, "w:gz") as archive:
        for name, pixels, labels in (("train", PIXELS[0], LABELS[0]), ("test", PIXELS[1], LABELS[1])):
            batch = {
                b"data": pixels.reshape(4, -1),
                b"fine_labels": labels.tolist(),
                b"coarse_labels": (labels % 20).tolist(),
            }
            add(archive, f"cifar-100-python/{name}", pickle.dumps(batch, protocol=2))
        meta = {
            b"fine_label_names": [n.encode() for n in fine],
            b"coarse_label_names": [n.encode() for n in coarse],
        }
        add(archive, "cifar-100-python/meta", pickle.dumps(meta, protocol=2))
    return path


def mnist(folder):
    root = folder / "mnist"
    root.mkdir()
    for stem, count in (("train", 5), ("t10k", 2)):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + RNG.bytes(count * 784)
        labels = struct.pack(">II", 0x801, count) + bytes(range(count))
        (root / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (root / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    return root


def picture(path, size=(20, 16), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path, **options)


def imagefolder(folder):
    root = folder / "photos"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            picture(root / split / name / "1.jpg")
            picture(root / split / name / "2.png")
            picture(root / split / name / "3.webp")
    return root


def tone(path, rate=16000, seconds=0.2, channels=1, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate) * 0.5
    soundfile.write(path, np.stack([wave] * channels, 1), rate, **options)


def audiofolder(folder):
    root = folder / "sounds"
    tone(root / "low" / "a.wav")
    tone(root / "low" / "b.flac", 44100)
    tone(root / "high" / "c.ogg", 44100, channels=2)
    tone(root / "high" / "d.mp3", 44100)
    return root


def ljspeech(folder):
    root = folder / "LJSpeech-1.1"
    for number in (1, 2, 3):
        tone(root / "wavs" / f"LJ001-000{number}.wav", 22050)
    lines = [f"LJ001-000{n}|Text {n}, “quoted”|Text {n}, quoted" for n in (1, 2, 3)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    path = folder / "LJSpeech-1.1.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(root, "LJSpeech-1.1")
    return path


def midi(folder):
    root = folder / "scores"
    root.mkdir()
    for number in range(3):
        file = mido.MidiFile(ticks_per_beat=480)
        track = mido.MidiTrack()
        for pitch in (60, 64, 67):
            track.append(mido.Message("note_on", note=pitch + number, velocity=70, time=0))
            track.append(mido.Message("note_off", note=pitch + number, time=480))
        file.tracks.append(track)
        file.save(root / f"{number}.mid")
    return root


def text(folder):
    path = folder / "book.txt"
    path.write_text("Grüße, 世界! The quick brown fox.\n" * 200)
    return path


def text8(folder):
    path = folder / "text8.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text8", " the quick brown fox jumps over the lazy dog" * 500)
    return path


PAGE = """  <page><title>{title}</title><ns>{ns}</ns><id>{id}</id>{redirect}<revision><id>{id}</id>
  <text bytes="10" xml:space="preserve">{text}</text></revision></page>
"""


def page(redirect="", **fields):
    return PAGE.format(redirect=redirect, **fields)


def wikipedia(folder):
    pages = [
        page(
            title="Fox",
            ns=0,
            id=1,
            text="The '''fox''' is a [[mammal|small mammal]]. {{cite}}" + " More." * 40,
        ),
        page(title="Vulpes", ns=0, id=2, redirect='<redirect title="Fox" />', text="#REDIRECT [[Fox]]"),
        page(title="Talk:Fox", ns=1, id=3, text="I disagree." * 30),
        *(page(title=f"Page {n}", ns=0, id=n, text=f"Article number {n}. " * 30) for n in range(4, 16)),
    ]
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">\n<siteinfo/>\n'
    path = folder / "wiki-pages-articles-multistream.xml.bz2"
    half = len(pages) // 2
    streams = [head, "".join(pages[:half]), "".join(pages[half:]), "</mediawiki>\n"]
    path.write_bytes(b"".join(bz2.compress(stream.encode()) for stream in streams))
    return path


def ratings(folder):
    path = folder / "ml-latest-small.zip"
    rows = [
        (user, item, RNG.integers(1, 11) / 2, 10**9 + user)
        for user in (1, 5, 9)
        for item in (10, 20, 30, 40)
    ]
    table = io.StringIO()
    csv.writer(table).writerows([("userId", "movieId", "rating", "timestamp"), *rows])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-latest-small/ratings.csv", table.getvalue())
        archive.writestr("ml-latest-small/movies.csv", "movieId,title,genres\n10,Heat,Crime\n")
    return path


TABLE = {
    "text": [f"row {n}" for n in range(20)],
    "score": [n / 2 for n in range(20)],
    "count": list(range(20)),
}


def parquet(folder):
    root = folder / "tables"
    root.mkdir()
    for part in range(2):
        pd.DataFrame(TABLE).iloc[part * 10 : part * 10 + 10].to_parquet(
            root / f"{part}.parquet", row_group_size=4
        )
    return root


def arrow(folder):
    path = folder / "table.arrow"
    pa.feather.write_feather(pa.table(TABLE), str(path), compression="lz4")
    return path


def jsonl(folder):
    path = folder / "table.jsonl"
    rows = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv_(folder):
    path = folder / "table.csv"
    pd.DataFrame(TABLE).to_csv(path, index=False)
    return path


def huggingface(folder):
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "note": datasets.Value("string"),
        }
    )
    picture(folder / "one.png")
    rows = {
        "image": [str(folder / "one.png")] * 6,
        "label": [0, 1] * 3,
        "note": [f"n{n}" for n in range(6)],
    }
    train = datasets.Dataset.from_dict(rows, features=features)
    path = folder / "saved"
    datasets.DatasetDict({"train": train, "test": train.select(range(2))}).save_to_disk(str(path))
    return path


SOURCES = {
    "cifar10": (cifar10, {"train": 20, "test": 4}, {"image": "image", "label": "class"}),
    "cifar100": (
        cifar100,
        {"train": 4, "test": 4},
        {"image": "image", "label": "class", "coarse": "class"},
    ),
    "mnist": (mnist, {"train": 5, "test": 2}, {"image": "image", "label": "class"}),
    "imagefolder": (imagefolder, {"train": 6, "validation": 6}, {"image": "image", "label": "class"}),
    "audiofolder": (audiofolder, 4, {"audio": "audio", "label": "class"}),
    "ljspeech": (ljspeech, 3, {"audio": "audio", "text": "text"}),
    "midi": (midi, 3, {"notes": "notes"}),
    "text": (text, None, {"text": "text"}),
    "text8": (text8, None, {"text": "text"}),
    "wikipedia": (wikipedia, 13, {"title": "text", "text": "text"}),
    "ratings": (ratings, 12, {"user": "id", "item": "id", "rating": "number", "time": "number"}),
    "parquet": (parquet, 20, {"text": "text", "score": "number", "count": "number"}),
    "arrow": (arrow, 20, {"text": "text", "score": "number", "count": "number"}),
    "jsonl": (jsonl, 20, {"text": "text", "score": "number", "count": "number"}),
    "csv": (csv_, 20, {"text": "text", "score": "number", "count": "number"}),
    "huggingface": (
        huggingface,
        {"train": 6, "test": 2},
        {"image": "image", "label": "class", "note": "text"},
    ),
}
