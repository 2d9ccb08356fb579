"""The server of a live report, and the script that changes the page in a browser."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
from chromium import chromium
from playwright.sync_api import Page as Tab

from analysis.live.server import Server
from analysis.output.model import Part, Section, Table
from analysis.output.page import Page
from local_machine.errors import InputError


def page(*epochs: int, more: bool = False) -> Page:
    """A section for each number, tall enough to scroll; `more` puts one before them."""
    sections = [
        Section(
            f"Sweep {place}",
            [
                Part(
                    "one",
                    [f"It has {epoch} epochs. <b>", *["A line."] * 40],
                    [Table(f"t-{place}", "Progress", pd.DataFrame({"epoch": [epoch] * 50}))],
                )
            ],
        )
        for place, epoch in enumerate(epochs)
    ]
    return Page("Report", [*[Section("Progress", [Part(notes=["New."])])] * more, *sections])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    page(1, 2).write(tmp_path / "report")
    (tmp_path / "report" / "mine.txt").write_text("of somebody else")
    server = Server(0, tmp_path / "report")
    server.publish(page(1, 2).html())
    yield server
    server.shutdown()
    server.server_close()


def answer(server: Server, path: str, host: str = "localhost", method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={"Host": host})
    return connection.getresponse().status


def test_only_who_knows_the_token_gets_an_answer(server: Server) -> None:
    token = server.token
    assert answer(server, f"/{token}/") == 200
    assert answer(server, f"/{token}/", f"localhost:{server.port}") == 200
    assert answer(server, f"/{token}/", "127.0.0.1:9999") == 200  # a forwarded port
    for path in ("/", "/report.html", f"/{token}", f"/{token[:-1]}/", f"/{token}x/", "//", "/%00/"):
        assert answer(server, path) == 404, path
    for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", ""):
        assert answer(server, f"/{token}/", host) == 404, host
    assert answer(server, f"/{token}/", method="POST") == 501
    assert server.server_address[0] == "127.0.0.1"


def test_files_of_the_report_and_no_others_are_served(server: Server) -> None:
    token = server.token
    assert answer(server, f"/{token}/tables/t-0.csv") == 200
    for name in (
        "report.html", "mine.txt", "../report/report.md", "%2e%2e/x", "tables/../report.md",
        "tables", "/etc/passwd", "tables%2ft-9.csv", "%00",
    ):  # fmt: skip
        assert answer(server, f"/{token}/{name}") == 404, name


def test_the_served_page_is_the_reports_own_but_for_its_script(server: Server) -> None:
    with urlopen(server.url, timeout=10) as got:
        assert got.headers["Cache-Control"] == "no-store"
        assert got.headers["Referrer-Policy"] == "no-referrer"
        html = got.read().decode()
    own = page(1, 2).html()
    assert "connect-src" not in own
    assert "; connect-src 'self'\"" in html
    start = html.index("<script>")
    end = html.index("</script>\n", start) + len("</script>\n")
    rest = html[:start] + html[end:]
    without = rest.replace("; connect-src 'self'", "", 1)
    first = without.index("'sha256-", without.index("script-src"))
    assert without[:first] + without[without.index(" ", first) + 1 :] == own


def test_a_port_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="it is taken"):
            Server(taken.getsockname()[1], tmp_path)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 900, "height": 400})


@pytest.mark.long
def test_what_changed_is_swapped_and_what_a_reader_did_stays(server: Server, tab: Tab) -> None:
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(server.url)
    fold = tab.locator("#sweep-1")
    assert fold.evaluate("one => one.open")  # a page without an answer is open
    fold.locator("summary").click()
    tab.evaluate("""
        window.cell = document.querySelector("#sweep-1 td");
        window.events = [];
        addEventListener("report:changed", (event) => {
          events.push(`${event.target.id} ${event.detail.replaced}`);
        });
        document.querySelector("#sweep-1 h2").scrollIntoView();
    """)
    before = tab.evaluate("document.querySelector('#sweep-1 h2').getBoundingClientRect().top")
    server.publish(page(1, 3).html())
    tab.locator("#sweep-1 td", has_text="3").first.wait_for(state="attached")
    # The same element has another text; nothing else was touched.
    assert tab.evaluate("cell.isConnected && cell.textContent") == "3"
    assert sorted(tab.evaluate("events")) == ["sweep-1.one false", "table-t-1 false"]
    assert "It has 3 epochs. <b>" in (tab.text_content("#sweep-1") or "")
    assert fold.evaluate("one => !one.open")
    # A section comes above: what the reader looks at stays where it is.
    server.publish(page(1, 3, more=True).html())
    tab.locator("#progress").wait_for()
    assert tab.evaluate("cell.isConnected")
    after = tab.evaluate("document.querySelector('#sweep-1 h2').getBoundingClientRect().top")
    assert abs(after - before) < 2
    assert fold.evaluate("one => !one.open")
    # It goes again, and a part is replaced whole, with what was open in it.
    longer = page(1, 3)
    longer.sections[1].parts[0].notes.append("One more.")
    server.publish(longer.html())
    tab.get_by_text("One more.").wait_for(state="attached")
    assert not tab.locator("#progress").count()
    assert fold.evaluate("one => !one.open")
    assert "sweep-1.one true" in tab.evaluate("events")
    assert wrong == []
