"""Facts about rsseg/runtime/serve/guard.py: pages of other sites reach nothing, programs all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.guard import Hosts, known_hosts
from tests.helpers.small_service import encoded, fake_service


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(make_app(fake_service(), known_hosts("127.0.0.1", ["net.example.org"]))) as c:
        yield c


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1", "net.example.org"]
)
def test_own_name_is_answered_with_any_port(client: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/predict", content=encoded(), headers=headers).status_code == 200
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1@evil.example", ""],
)
@pytest.mark.parametrize("path", ["/", "/health", "/model", "/metrics", "/predict", "/nothing"])
def test_name_that_is_made_to_point_here_is_refused_everywhere(
    client: TestClient, host: str, path: str
) -> None:
    told = client.request("POST" if path == "/predict" else "GET", path, headers={"Host": host})
    assert told.status_code == 421
    assert "--allow-host" in told.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "file://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "unheard-of"},
    ],
)
@pytest.mark.parametrize("kind", [None, "image/png", "text/plain"])
def test_foreign_page_sends_no_image_whatever_type_it_gives_it(
    client: TestClient, headers: dict[str, str], kind: str | None
) -> None:
    given = {"Host": "localhost", **headers} | ({"Content-Type": kind} if kind else {})
    told = client.post("/predict", content=encoded(), headers=given)
    assert told.status_code == 403
    assert "page of" in told.json()["error"]


def test_page_behind_a_proxy_is_one_of_the_services_own(client: TestClient) -> None:
    headers = {"Host": "127.0.0.1:8000", "Origin": "https://net.example.org"}
    assert client.post("/predict", content=encoded(), headers=headers).status_code == 200


def test_link_from_another_site_opens_the_page(client: TestClient) -> None:
    headers = {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}
    assert client.get("/", headers=headers).status_code == 200


def test_service_for_all_networks_takes_any_name_until_it_is_given_one() -> None:
    assert known_hosts("0.0.0.0") == Hosts()
    loopback = frozenset({"localhost", "127.0.0.1", "::1"})
    assert known_hosts("0.0.0.0", ["net.example.org"]).known == loopback | {"net.example.org"}
    assert known_hosts("127.0.0.2").known == loopback | {"127.0.0.2"}


@pytest.mark.parametrize("name", ["http://x", "x:80", "x/y", "", "a@b"])
def test_name_with_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"--allow-host .*expected a name alone"):
        known_hosts("127.0.0.1", [name])


def test_parameter_that_is_given_twice_is_refused(client: TestClient) -> None:
    query = "?resolution=64&resolution=32"
    told = client.post(f"/predict{query}", content=encoded(), headers={"Host": "localhost"})
    assert told.status_code == 400
    assert told.json()["error"] == "parameter 'resolution' is given more than once; give one"
