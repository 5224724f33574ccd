"""What connectors share about secrets and HTTP."""

import pytest
from pydantic import TypeAdapter, ValidationError

from connectors.contract import NotReadyError, RefusedError
from connectors.http import HttpUrl, host_of, retry_after_s, trust
from connectors.secrets import read_secret

NOW_S = 1_704_067_200.0  # 2024-01-01T00:00:00Z


def secret(file=None, env=None):
    return read_secret("token", file=file, env=env, connector="rig")


def test_a_secret_is_read_from_its_file_without_the_newline_and_never_shown(tmp_path):
    path = tmp_path / "token"
    path.write_text("\ufeffs3cret\r\n", encoding="utf-8")
    found = secret(file=str(path))
    assert found.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(found) + str(found)


def test_a_secret_is_read_from_its_variable(monkeypatch):
    monkeypatch.setenv("RIG_TOKEN", " s3cret\n")
    assert secret(env="RIG_TOKEN").get_secret_value() == "s3cret"


def test_none_named_is_none():
    assert secret() is None


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfes3cret", b"s3cret" * 20_000])
def test_a_secret_that_is_not_there_says_where_it_was_looked_for(tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotReadyError, match=r"rig: token: .*token") as error:
        secret(file=str(path))
    assert "s3cret" not in f"{error.value} {error.value.__cause__!r}"


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(NotReadyError, match="variable NO_SUCH_TOKEN is empty or not set"):
        secret(env="NO_SUCH_TOKEN")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("1e99", 86_400.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Mon, 01 Jan 2024 00:01:00 GMT", 60.0),
        ("Mon, 01 Jan 2024 02:01:00 +0200", 60.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
        ("Mon, 99 Jan 2024 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_s(header, now_s=NOW_S) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "file:" + "//x",  # in pieces: no machine's path
        "host:8086",
        "http://",
        "http://a b/",
        "http://host:99999/",
        "http://user:pw@host/",
        "http://user@host/",
        "http://host/#part",
        "http://host/\n",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValidationError):
        TypeAdapter(HttpUrl).validate_python(url)


@pytest.mark.parametrize(
    "url", ["http://host", "https://10.0.0.7:8443/a/b?c=d", "http://[::1]:80/"]
)
def test_an_address_is_kept_as_it_is(url):
    assert TypeAdapter(HttpUrl).validate_python(url) == url


def test_a_text_shows_the_host_of_an_address_and_not_its_path():
    assert host_of("https://hooks.example:8443/T0/secret?key=1") == "https://hooks.example:8443"


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(NotReadyError, match=name):
            trust(str(tmp_path / name), connector="rig")


def test_refused_items_with_one_reason_are_told_together():
    error = RefusedError.of({3: "hot", 1: "hot", 2: "cold"}, connector="rig", count=9)
    assert error.items == (1, 2, 3)
    assert str(error) == "rig: 3 of 9 not taken: items 1, 3: hot; item 2: cold"
