"""Tokens, origins, host names and sizes, checked before anything of a request is used."""

from __future__ import annotations

import socket

import pytest
import requests
from server.toy import RunningServer, until

from resvox.server.settings import ServeSettings

TOKEN = "a-token-of-the-tests"
ORIGIN = "https://ohif.example.org"


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    settings = ServeSettings(
        models=(str(models / "one"),), data=str(tmp_path_factory.mktemp("data")), devices=("cpu",), engine="torch",
        precision="float32", token=TOKEN, origins=(ORIGIN,), max_upload_mb=0.5,
    )  # fmt: skip
    with RunningServer(settings) as server:
        until(lambda: server.service.scheduler.is_ready)
        yield server


def routes(server):
    return [
        (path, method.upper()) for path, item in server.server.config.app.openapi()["paths"].items() for method in item
    ]


def test_every_route_but_the_public_ones_needs_the_token(guarded):
    public = {"/", "/healthz", "/auth/", "/auth/token", "/login"}
    checked = 0
    for path, method in routes(guarded):
        url = guarded.url + path.replace("{job_id}", 32 * "0").replace("{kind}", "labels").replace("{model}", "one")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"resvox_session={TOKEN}"}):
            status = requests.request(method, url, headers=headers, timeout=60).status_code
            assert (status == 401) == (path not in public), (path, method, status)
        checked += 1
    assert checked > 15


def test_the_token_opens_as_header_and_as_cookie_of_the_login(guarded):
    url = guarded.url
    assert requests.get(f"{url}/models", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60).status_code == 200
    session = requests.Session()
    assert session.post(f"{url}/login", json={"token": "wrong"}, timeout=60).status_code == 401
    answer = session.post(f"{url}/login", json={"token": TOKEN}, timeout=60)
    assert answer.status_code == 204
    assert TOKEN not in answer.headers["set-cookie"]
    assert {"httponly", "samesite=strict"} <= set(answer.headers["set-cookie"].lower().replace(" ", "").split(";"))
    assert session.get(f"{url}/models", timeout=60).status_code == 200


def test_monai_label_clients_log_in_with_the_token_as_password(guarded):
    url = guarded.url
    assert requests.get(f"{url}/auth/", timeout=60).json()["enabled"] is True
    bad = requests.post(f"{url}/auth/token", data={"username": "x", "password": "wrong"}, timeout=60)
    assert bad.status_code == 401
    got = requests.post(f"{url}/auth/token", data={"username": "x", "password": TOKEN}, timeout=60).json()
    headers = {"Authorization": f"{got['token_type']} {got['access_token']}"}
    assert requests.get(f"{url}/auth/token/valid", headers=headers, timeout=60).status_code == 200


def test_pages_of_other_origins_may_not_change_anything(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example.org"}
    assert requests.post(f"{guarded.url}/jobs/fetch", json={}, headers=headers, timeout=60).status_code == 403
    headers["Origin"] = "null"
    assert requests.post(f"{guarded.url}/jobs/fetch", json={}, headers=headers, timeout=60).status_code == 403
    headers["Origin"] = guarded.url
    assert requests.post(f"{guarded.url}/jobs/fetch", json={}, headers=headers, timeout=60).status_code == 422


def test_the_origin_of_ohif_is_allowed_and_no_other(guarded):
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    url = f"{guarded.url}/infer/one"
    answer = requests.options(url, headers={"Origin": ORIGIN, **ask}, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    other = requests.options(url, headers={"Origin": "https://evil.example.org", **ask}, timeout=60)
    assert "access-control-allow-origin" not in other.headers
    refused = requests.get(f"{guarded.url}/info/", headers={"Origin": ORIGIN}, timeout=60)
    assert refused.status_code == 401  # and the page can read that
    assert refused.headers["access-control-allow-origin"] == ORIGIN


def test_without_a_token_another_host_name_is_refused(served):
    assert requests.get(f"{served.url}/models", headers={"Host": "evil.example.org"}, timeout=60).status_code == 403
    assert requests.get(f"{served.url}/models", headers={"Host": "localhost:1"}, timeout=60).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_refused_whatever_its_headers_state(guarded, chunked):
    content = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\n' + bytes(3_000_000)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"}
    body = (content[start : start + 100_000] for start in range(0, len(content), 100_000)) if chunked else content
    try:
        answer = requests.post(f"{guarded.url}/jobs", data=body, headers=headers, timeout=60)
    except requests.ConnectionError:
        pass  # closed while the rest was being sent
    else:
        assert answer.status_code == 413
        assert "0.5 MB" in answer.json()["detail"]
    assert list(guarded.service.folders.spool.iterdir()) == []
    assert requests.get(f"{guarded.url}/healthz", timeout=60).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/login", "/auth/token"])
def test_a_body_without_a_token_is_small(guarded, path, chunked):
    """The upload limit would let any client fill the memory: a log-in is read as a whole before it is checked."""
    body = b'{"token": "' + 40_000 * b"x" + b'"}' if path == "/login" else b"password=" + 40_000 * b"x"
    media = "application/json" if path == "/login" else "application/x-www-form-urlencoded"
    answer = requests.post(
        guarded.url + path, data=iter([body]) if chunked else body, headers={"Content-Type": media}, timeout=60
    )
    assert answer.status_code == 413
    assert "at most 16 kB" in answer.json()["detail"]


def test_an_invented_method_makes_no_series_of_its_own(guarded):
    """Each value of a label is kept as long as the server runs, and refused requests are counted, too."""
    requests.request("PROPFIND", f"{guarded.url}/models", timeout=60)
    shown = requests.get(f"{guarded.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60).text
    assert 'method="other"' in shown
    assert "PROPFIND" not in shown


def test_a_request_of_garbage_does_no_harm(guarded):
    host, port = guarded.url.removeprefix("http://").split(":")
    for garbage in (b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /jobs HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(garbage)
            connection.recv(1000)
    assert requests.get(f"{guarded.url}/healthz", timeout=60).status_code == 200
