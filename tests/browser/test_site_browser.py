"""The web site in a browser: on a phone, in both themes, without a request to anywhere else."""

import functools
import http.server
import threading

import pytest
from course import NOTEBOOKS

pytestmark = pytest.mark.browser

PAGES = ["index", "glossary", "notebooks/results/README", "notebooks/results/questions"]
PAGES += [f"notebooks/{path.stem}" for path in NOTEBOOKS]
OUTSIDE = """() => { const inside = node => { for (let up = node; up; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true; };
  const wide = node => { const box = node.getBoundingClientRect();
    return box.width && box.left < innerWidth && box.right > innerWidth + 1; };
  return [...document.querySelectorAll("article *")].filter(n => wide(n) && !inside(n.parentElement)
    && !inside(n)).map(node => node.outerHTML.slice(0, 100)); }"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(params=["light", "dark"])
def phone(chromium, address, request):
    """A page of a phone's size; at its end nothing has failed, and nothing was asked elsewhere."""
    page, faults = chromium.new_page(color_scheme=request.param), []
    page.set_viewport_size({"width": 390, "height": 800})
    page.on("console", lambda line: line.type in ("error", "warning") and faults.append(line.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda r: r.status >= 400 and faults.append(r.url))
    page.on(
        "request", lambda r: r.url.startswith((address, "data:", "blob:")) or faults.append(r.url)
    )
    yield page
    page.close()
    assert faults == []


@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(phone, address, name):
    phone.goto(f"{address}{name}.html")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.evaluate(OUTSIDE) == []


def test_the_search_finds_the_notebook(phone, address):
    phone.goto(f"{address}search.html?q=posterior")
    phone.wait_for_selector("#search-results li a")
    found = phone.locator("#search-results li > a").evaluate_all("all => all.map(a => a.href)")
    assert any("05_prior_and_posterior" in link for link in found[:3])
    assert any("glossary.html#term-posterior" in link for link in found[:3])


def test_formulas_are_drawn(phone, address):
    phone.goto(f"{address}notebooks/06_losses.html")
    sizes = phone.evaluate("""[...document.querySelectorAll(".math > math")].map(
        node => node.getBoundingClientRect()).map(box => [box.width, box.height])""")
    assert len(sizes) > 30 and all(width > 3 and height > 5 for width, height in sizes)


def test_the_console_plays(phone, address):
    phone.goto(f"{address}notebooks/00_why_dream.html")
    host = phone.locator(".wmlib-player").first
    host.scroll_into_view_if_needed()
    host.locator("#test.good").wait_for()
    host.locator("#step").click()
    assert host.locator("#frame").inner_text() == "1"
