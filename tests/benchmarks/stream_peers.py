"""One pass of one peer, in the peers' own environment: `python -m benchmarks.stream_peers VERB PEER JOB`.

`prepare` brings the pictures into the peer's format in the bucket; it is not timed. `measure` reads them
from there and prints its figures as JSON. The job is JSON: the pictures' folder, the bucket and a prefix.

Each peer has pieces of at most `PIECE_BYTES`, so that its two workers share even a small dataset, and else
its defaults; what it caches on disk is gone before the next pass.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
from benchmarks.stream_measure import BATCH, LOADERS, answer, decoded, drained, measured
from torch.utils.data import DataLoader, Dataset

PIECE_BYTES = 8 << 20
PIECES = 2 * LOADERS
"""A dataset that is smaller is cut into as many."""
UPLOADS = 8
BUFFER_ROWS = 2048
"""Rows that webdataset shuffles among: as many as our smallest window."""


@dataclass(frozen=True)
class Job:
    """Where the pictures are, and where each format of them goes."""

    folder: str
    bucket: str
    prefix: str

    def rows(self) -> list[tuple[Path, int]]:
        """Each picture's file and its class, as the folders number them."""
        files = sorted(Path(self.folder).rglob("*.png"))
        classes = sorted({file.parent.name for file in files})
        return [(file, classes.index(file.parent.name)) for file in files]

    def piece_bytes(self) -> int:
        """The size of a peer's shards."""
        total = sum(file.stat().st_size for file, _ in self.rows())
        return min(PIECE_BYTES, total // PIECES)

    def key(self, peer: str, name: str = "") -> str:
        """An object's key."""
        return f"{self.prefix}/{peer}/{name}"

    def url(self, peer: str) -> str:
        """The peer's folder in the bucket."""
        return f"s3://{self.bucket}/{self.prefix}/{peer}"


@cache
def s3() -> Any:
    """This process's client; the environment says of which server."""
    return boto3.client("s3")


def upload(job: Job, peer: str, folder: Path) -> None:
    """Copy a folder into the bucket."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    client = s3()

    def copy(file: Path) -> None:
        key = job.key(peer, str(file.relative_to(folder)))
        client.put_object(Bucket=job.bucket, Key=key, Body=file.read_bytes())

    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(copy, files))


def listed(job: Job, peer: str) -> list[str]:
    """The keys of a peer's objects, sorted."""
    pages = s3().get_paginator("list_objects_v2").paginate(Bucket=job.bucket, Prefix=job.key(peer))
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))


class PictureFiles(Dataset):
    """A file each row, read when it is asked for."""

    def __init__(self, bucket: str, keys: list[str]) -> None:
        self.bucket, self.keys = bucket, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key = self.keys[index]
        data = s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return {"image": decoded(data), "label": int(key.split("/")[-2].rpartition("-")[2])}


def prepare_files(job: Job, folder: Path) -> None:
    """The files as they are."""
    for file, label in job.rows():
        target = folder / f"class-{label}" / file.name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(file)


def open_files(job: Job, cache_folder: str) -> Any:
    """The DataLoader that most people begin with."""
    files = PictureFiles(job.bucket, listed(job, "files"))
    s3.cache_clear()  # each worker has a client of its own
    return DataLoader(files, BATCH, shuffle=True, num_workers=LOADERS)


def prepare_mosaic(job: Job, folder: Path) -> None:
    """MDS shards."""
    _allow_any_torchvision()
    from streaming import MDSWriter

    columns = {"image": "bytes", "label": "int"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=job.piece_bytes()) as out:
        for file, label in job.rows():
            out.write({"image": file.read_bytes(), "label": label})


def open_mosaic(job: Job, cache_folder: str) -> Any:
    """Its StreamingDataset, shuffled."""
    _allow_any_torchvision()
    from streaming import StreamingDataset

    class Decoded(StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            row = super().__getitem__(at)
            return {"image": decoded(row["image"]), "label": row["label"]}

    os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
    rows = Decoded(remote=job.url("mosaic"), local=cache_folder, shuffle=True, batch_size=BATCH)
    return DataLoader(rows, BATCH, num_workers=LOADERS)


def _allow_any_torchvision() -> None:
    """Let torchvision be imported where its build is not that of torch: nothing here calls its operators."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(operators)


_KEPT: list[Any] = []
"""What torch forgets when nothing refers to it."""


def prepare_litdata(job: Job, folder: Path) -> None:
    """Optimised chunks."""
    import litdata

    inputs = [(str(file), label) for file, label in job.rows()]
    litdata.optimize(
        fn=_read_row,
        inputs=inputs,
        output_dir=str(folder),
        chunk_bytes=job.piece_bytes(),
        num_workers=1,
    )


def _read_row(row: tuple[str, int]) -> dict[str, Any]:
    return {"image": Path(row[0]).read_bytes(), "label": row[1]}


def open_litdata(job: Job, cache_folder: str) -> Any:
    """Its StreamingDataset in its own kind of DataLoader, shuffled."""
    import litdata
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # there is no option of its own for that

    class Decoded(litdata.StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            row = super().__getitem__(at)
            return {"image": decoded(row["image"]), "label": row["label"]}

    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    rows = Decoded(job.url("litdata"), cache_dir=cache_folder, shuffle=True, storage_options=options)
    return litdata.StreamingDataLoader(rows, batch_size=BATCH, num_workers=LOADERS)


def prepare_webdataset(job: Job, folder: Path) -> None:
    """Tar files."""
    import webdataset

    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=job.piece_bytes(), verbose=0) as out:
        for number, (file, label) in enumerate(job.rows()):
            out.write({"__key__": f"{number:09d}", "png": file.read_bytes(), "cls": label})


def open_webdataset(job: Job, cache_folder: str) -> Any:
    """Its pipeline over the tars in the bucket; the shards are shuffled, and rows in a buffer."""
    import webdataset
    from webdataset.gopen import gopen_schemes

    gopen_schemes["s3"] = _open_object
    urls = [f"s3://{job.bucket}/{key}" for key in listed(job, "webdataset")]
    s3.cache_clear()
    rows = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=1)
    return DataLoader(rows.shuffle(BUFFER_ROWS).map(_decoded_member), BATCH, num_workers=LOADERS)


def _open_object(url: str, mode: str = "rb", bufsize: int = 0) -> Any:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return s3().get_object(Bucket=bucket, Key=key)["Body"]


def _decoded_member(row: dict[str, Any]) -> dict[str, Any]:
    return {"image": decoded(row["png"]), "label": int(row["cls"])}


PEERS = {
    "files": (prepare_files, open_files),
    "mosaic": (prepare_mosaic, open_mosaic),
    "litdata": (prepare_litdata, open_litdata),
    "webdataset": (prepare_webdataset, open_webdataset),
}


def main() -> None:
    """Do what the command line says."""
    verb, peer, job = sys.argv[1], sys.argv[2], Job(**json.loads(sys.argv[3]))
    prepare, open_batches = PEERS[peer]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if verb == "prepare":
            prepare(job, Path(folder))
            upload(job, peer, Path(folder))
            answer({"objects": len(listed(job, peer))})
            return
        batches: partial[Iterator[Any]] = partial(open_batches, job, folder)
        answer(measured(lambda: [drained(batches())]))


if __name__ == "__main__":
    main()
