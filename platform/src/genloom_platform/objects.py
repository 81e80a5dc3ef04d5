"""Objects in S3: the file system, and what pyarrow does not do as every server takes it."""

import os
import time
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs

ATTEMPTS = 8
"""A request is tried so often, about a minute in all, before S3 counts as gone; AWS_MAX_ATTEMPTS overrides."""
SETTLE_S = 0.5
"""After so long, an object that several created at once is read for who wrote it last."""


def filesystem() -> pafs.FileSystem:
    """S3 by the usual AWS environment; AWS_ENDPOINT_URL names another server than Amazon's."""
    # Other servers than Amazon's refuse the trailing checksums that the AWS library adds by default (HTTP 411).
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))
    parts = urlsplit(endpoint) if endpoint else None
    return pafs.S3FileSystem(
        endpoint_override=parts.netloc if parts else None,
        scheme=parts.scheme if parts else "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_bucket_creation=False,
        allow_delayed_open=True,
    )


def delete(prefix: str) -> None:
    """Delete every object whose path starts so, by boto3.

    Pyarrow would also write and delete folder markers, which not every server takes.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, start = prefix.partition("/")
    try:
        client: Any = boto3.client("s3")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", []) if item["Key"][-1] != "/"]
            if keys:
                client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


def create(path: str, data: bytes) -> bool:
    """Create an object on the condition that there is none; false where there is one."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = path.partition("/")
    try:
        client: Any = boto3.client("s3")
        client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        time.sleep(SETTLE_S)  # for servers that do not know the condition
        return client.get_object(Bucket=bucket, Key=key)["Body"].read() == data
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise OSError(str(error)) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error
