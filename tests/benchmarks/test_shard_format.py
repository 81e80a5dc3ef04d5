"""Why shards are what they are: Arrow IPC and Parquet, packed and not, in groups of several sizes.

Reading at random is what the stream does: sixteen row groups of a shard, as a window of the shuffle takes.
"""

import io
import os
import statistics
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks import pictures, tables

from genloom_platform.store import Store

pytestmark = pytest.mark.bench

ROUNDS = 5
GROUP_BYTES = {"64 kB": 1 << 16, "256 kB": 1 << 18, "1 MB": 1 << 20, "4 MB": 1 << 22}
TOTAL_BYTES = int(os.environ.get("GENLOOM_BENCH_SHARD_MB", "48")) << 20


def images():
    data = []
    for number in range(1000):
        file = io.BytesIO()
        pictures.picture(number).save(file, "png")
        data.append(file.getvalue())
    count = TOTAL_BYTES // (sum(map(len, data)) // len(data))
    return pa.table(
        {"image": pa.array([data[n % 1000] for n in range(count)], pa.binary()), "label": range(count)}
    )


def texts():
    rng = np.random.default_rng(0)
    words = np.array(
        ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(5000)]
    )
    odds = 1 / np.arange(1, 5001)
    count = TOTAL_BYTES // 1000
    drawn = rng.choice(words, (count, 170), p=odds / odds.sum())
    return pa.table({"text": [" ".join(row) for row in drawn]})


def ratings():
    rng = np.random.default_rng(0)
    count = TOTAL_BYTES // 32
    return pa.table(
        {
            "user": np.sort(rng.integers(0, 200_000, count)),
            "item": rng.zipf(1.5, count) % 60_000,
            "rating": rng.integers(1, 11, count) / 2,
            "time": rng.integers(10**9, 2 * 10**9, count),
        }
    )


class Arrow:
    def __init__(self, compression):
        self.compression = compression
        self.name = f"Arrow IPC {compression or 'plain'}"

    def write(self, table, rows, sink):
        options = pa.ipc.IpcWriteOptions(compression=self.compression)
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rows)

    def groups(self, file, numbers):
        with pa.ipc.open_file(file) as reader:
            numbers = range(reader.num_record_batches) if numbers is None else numbers
            return pa.Table.from_batches([reader.get_batch(number) for number in numbers])


class Parquet:
    def __init__(self, compression):
        self.compression = compression
        self.name = f"Parquet {compression or 'plain'}"

    def write(self, table, rows, sink):
        pq.write_table(
            table, sink, row_group_size=rows, compression=self.compression or "none",
            use_dictionary=False, write_statistics=False, write_page_checksum=True,
        )  # fmt: skip

    def groups(self, file, numbers):
        reader = pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True)
        return reader.read_row_groups(
            list(range(reader.num_row_groups) if numbers is None else numbers)
        )


CONTENDERS = [kind(compression) for kind in (Arrow, Parquet) for compression in (None, "lz4", "zstd")]


@pytest.mark.parametrize("make", [images, texts, ratings], ids=lambda make: make.__name__)
def test_formats_of_shards(make, tmp_path, s3):
    table = make()
    remote = Store(f"{s3}/shard-format")
    raw = table.nbytes
    measured = {}
    for label, group_bytes in GROUP_BYTES.items():
        rows = max(1, table.num_rows * group_bytes // raw)
        for contender in CONTENDERS:
            path = tmp_path / f"{contender.name}-{label}"
            started = time.perf_counter()
            with pa.OSFile(str(path), "wb") as sink:
                contender.write(table, rows, sink)
            measured[contender, label] = {"write": [time.perf_counter() - started]}
            remote.upload(path, path.name)
    for number in range(ROUNDS):
        for (contender, label), times in measured.items():
            count = -(-table.num_rows // max(1, table.num_rows * GROUP_BYTES[label] // raw))
            random = np.sort(np.random.default_rng(number).permutation(count)[:16]).tolist()
            name = f"{contender.name}-{label}"
            for key, open_, numbers in (
                ("scan", lambda: pa.OSFile(str(tmp_path / name), "rb"), None),  # noqa: B023
                ("random", lambda: pa.OSFile(str(tmp_path / name), "rb"), random),  # noqa: B023
                ("scan S3", lambda: remote.open(name), None),  # noqa: B023
                ("random S3", lambda: remote.open(name), random),  # noqa: B023
            ):
                started = time.perf_counter()
                with open_() as file:
                    contender.groups(file, numbers)
                times.setdefault(key, []).append(time.perf_counter() - started)
    lines = []
    for (contender, label), times in measured.items():
        median = {key: statistics.median(values) for key, values in times.items()}
        size = (tmp_path / f"{contender.name}-{label}").stat().st_size
        rates = [f"{raw / 1e6 / median[key]:,.0f}" for key in ("write", "scan", "scan S3")]
        random = [f"{median['random'] * 1e3:.1f}", f"{median['random S3'] * 1e3:.0f}"]
        lines.append((contender.name, label, f"{size / raw:.2f}", *rates, *random))
    headings = ["write MB/s", "scan MB/s", "scan S3 MB/s", "16 groups ms", "16 groups S3 ms"]
    tables.show(
        f"shards of {make.__name__}, {raw / 1e6:.0f} MB",
        ("format", "group", "size / raw", *headings),
        lines,
        f"medians of {ROUNDS} interleaved rounds (writing: one); S3 is rclone on the same cores",
    )
