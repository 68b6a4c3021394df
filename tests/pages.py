"""Hostile texts, and what a browser makes of a page."""

import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from tools.stack import ROOT

MARKUP = """<img src=x onerror="document.documentElement.id='ran'"><script>alert(1)</script>"""
BREAKING_OUT = """"'><svg/onload=alert(1)></style></title></textarea>{{ 7 * 7 }}{% raw %}]]>--><!--"""
CONTROL = "a\nRefused: b\x1b[31m\u202efdp.exe\u200b\x9b2J\r"
FORMULA = '=HYPERLINK("http://evil.example";A1)'
RICH = "[red]all is well[/red] [link=http://evil.example]x[/link] :smiley:"
HOSTILE = (MARKUP, BREAKING_OUT, CONTROL, FORMULA, RICH)

LOADING = {"src", "srcset", "href", "data", "action", "formaction", "poster", "background", "ping", "cite", "manifest"}
"""Attributes with an address that a browser loads or opens."""


class Structure(HTMLParser):
    """The elements of a page with their attributes, without texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """What a person reads."""
        return "".join(self.texts)


def assert_complete_in_itself(page: str, *, draws: bool = False) -> None:
    """Raise if a page runs or loads anything, or sends a person anywhere; `draws`: it has charts."""
    elements = Structure(page).elements
    tags = {tag for tag, _ in elements}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        *(() if draws else ("svg",)),
        "form",
        "base",
        "a",
        "comment",
    }, tags
    for tag, attributes in elements:
        for name, value in attributes:
            assert name not in LOADING and not name.startswith("on") and name != "style", (tag, name)
            assert "//" not in (value or ""), (tag, name, value)
    [style] = page.split("<style>")[1:]
    for loading in ("url(", "@import", "//", "image-set", "src(", "expression("):
        assert loading not in style.split("</style>")[0], loading


@cache
def browser() -> str:
    """Return the browser of this machine; fail with what to install if it has none."""
    found = subprocess.run([ROOT / "tools" / "need", "browser"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def headless(profile: Path, *options: str) -> list[str]:
    """Return the command of the browser without a window."""
    return [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        # else a new profile asks its vendor's servers for updates, and waits for them where they do not answer
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        f"--user-data-dir={profile}",
        *options,
    ]


def opened(page: Path, *options: str) -> str:
    """Return the document as a browser has it after it has run what it allows to run."""
    command = headless(page.parent / "browser", "--virtual-time-budget=2000", *options)
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
