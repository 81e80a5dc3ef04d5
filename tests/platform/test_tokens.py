"""Tokens of clusters: read where they are whole, and replaced whole."""

import pytest

from genloom.errors import RequestError
from genloom_platform import tokens
from genloom_platform.profiles import Profile, Token


@pytest.fixture
def lab(tmp_path):
    """A profile whose token lies in a file that is not there."""
    return Profile(token=Token(file=tmp_path / "tokens" / "lab"))


def test_a_file_that_holds_no_text_is_told(lab):
    tokens.make(lab.token_source.file)
    lab.token_source.file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="holds no token, which is one line of plain characters"):
        tokens.read(lab)


def test_a_folder_in_place_of_the_file_is_told(lab):
    lab.token_source.file.mkdir(parents=True, mode=0o700)
    with pytest.raises(RequestError, match=r"cannot read the token .*directory"):
        tokens.read(lab)


def test_a_token_is_replaced_by_a_file_that_only_its_owner_reads(lab):
    for token in ("first", "second"):
        tokens.replace(lab.token_source.file, token)
        assert tokens.read(lab) == token
    assert lab.token_source.file.stat().st_mode & 0o777 == 0o600
    assert len(list(lab.token_source.file.parent.iterdir())) == 1
