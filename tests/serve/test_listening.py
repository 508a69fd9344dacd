"""Ports, socket files, TLS: what is listened on, and what is refused before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.cli_command import run
from tests.serve.running import ROOT, WAIT_SECS, Running, running, some_classifier
from vitrail.errors import EnvironmentFault
from vitrail.serve.listening import SocketFile, ended, tls_context, url_of

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "digits"
    some_classifier().save(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    words += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    subprocess.run([openssl, *words.split()], check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


def everything(link: socket.socket) -> bytes:
    """What comes until the end."""
    parts = []
    while part := link.recv(65536):
        parts.append(part)
    return b"".join(parts)


def over_tls(server: Running, cert: Path, text: bytes) -> bytes:
    """The answer, from a server that the certificate names."""
    context = ssl.create_default_context(cafile=cert)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        link.sendall(text)
        return everything(link)


def test_tls(pair: tuple[Path, Path]) -> None:
    with running(tls=tls_context(*pair)) as server:
        assert b"200 OK" in over_tls(server, pair[0], GET)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
            link.sendall(GET)  # without TLS: no answer, and no harm
            try:
                assert b"200 OK" not in everything(link)
            except ConnectionResetError:
                pass
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain,
            old.wrap_socket(plain) as link,
        ):
            assert link.version() in ("TLSv1.2", "TLSv1.3")


def test_a_handshake_that_never_comes_is_ended(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.serve.server.HEADER_SECS", 0.5)
    with running(tls=tls_context(*pair)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
            began = time.monotonic()
            try:
                assert link.recv(10) == b""
            except ConnectionResetError:
                pass
            assert time.monotonic() - began < 10
        assert b"200 OK" in over_tls(server, pair[0], GET)


def test_tls_files_that_cannot_be_used(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    empty = tmp_path / "empty"
    empty.write_text("")
    shown = tmp_path / "shown.pem"
    shown.write_bytes(key.read_bytes())
    shown.chmod(0o644)
    for one, other in (
        (tmp_path / "none", key),
        (cert, tmp_path / "none"),
        (tmp_path, key),
        (empty, key),
        (cert, empty),
        (key, cert),
        (cert, shown),
    ):
        empty.chmod(0o600)
        with pytest.raises(EnvironmentFault, match="VIT-526") as caught:
            tls_context(one, other)
        assert "PRIVATE" not in str(caught.value)


def test_a_key_with_a_password_is_refused_without_asking(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    locked = tmp_path / "locked.pem"
    words = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", str(pair[1])]
    subprocess.run([*words, "-out", str(locked)], check=True, capture_output=True)
    locked.chmod(0o600)
    with pytest.raises(EnvironmentFault, match="VIT-526"):
        tls_context(pair[0], locked)


@contextmanager
def by_socket(model: Path, place: Path) -> Iterator[subprocess.Popen[str]]:
    """`vitrail serve --uds`, ready."""
    words = [sys.executable, "-m", "vitrail", "serve", str(model), "--uds", str(place), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            record = json.loads(process.stdout.readline())
            assert (record["uds"], record["url"]) == (str(place), "http://localhost")
            yield process
        finally:
            process.kill()


def through(place: Path, text: bytes) -> bytes:
    """The answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(WAIT_SECS)
        link.connect(os.fspath(place))
        link.sendall(text)
        return everything(link)


def test_a_socket_file(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "vitrail.sock"
    with by_socket(model, place) as process:
        assert place.stat().st_mode & 0o777 == 0o660
        assert b"200 OK" in through(place, GET)
        assert "VIT-524" in run("serve", model, "--uds", place).err  # somebody listens there
        assert b"200 OK" in through(place, GET)
        process.terminate()
        assert process.wait(WAIT_SECS) == 0
    assert not place.exists()


def test_a_socket_file_that_was_left_behind(tmp_path: Path) -> None:
    place = tmp_path / "old.sock"
    left = SocketFile(place).listen()
    left.close()
    assert place.exists()
    again = SocketFile(place).listen()
    assert url_of(again) == "http://localhost"
    with ended(again):
        assert place.exists()
    assert not place.exists()


def test_no_file_is_lost_to_a_socket(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("mine")
    for path in (place, tmp_path, tmp_path / "none" / "a.sock", tmp_path / ("a" * 200)):
        with pytest.raises(EnvironmentFault, match="VIT-524"):
            SocketFile(path).listen()
    assert place.read_text() == "mine"


def test_options_that_exclude_each_other(model: Path, tmp_path: Path) -> None:
    assert "VIT-203" in run("serve", model, "--uds", tmp_path / "s", "--port", 1).err
    assert "VIT-203" in run("serve", model, "--tls-cert", tmp_path / "c").err
    assert "VIT-526" in run("serve", model, "--tls-cert", tmp_path, "--tls-key", tmp_path).err
