"""A page: sections of text, tables and figures, and its writing as HTML, Markdown, CSV, LaTeX.

All text is plain text here; each format escapes it in its own way, and none trusts it.
"""

from __future__ import annotations

import base64
import csv
import glob
import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.figures import glyphs
from analysis.figures.style import pdf, png, svg
from analysis.stats.summary_tables import show
from trial_records.errors import InputError, move_away, storage_error
from trial_records.trial_files import read_file, write_atomic

# Lists a report's files, for `sha256sum --check` and for the next report to know them by.
MANIFEST = "report.sha256"

_TEMPLATES = Path(__file__).with_name("templates")
_VECTOR_LIMIT = 300_000  # bytes of an SVG, above which a smaller PNG takes its place in the page
_LONG_TABLE = 40  # rows, above which a table waits to be opened
_LONG_LINE = 30  # characters, above which a cell's line is broken


@dataclass(frozen=True)
class Table:
    """`name` becomes tables/<name>.csv and .tex."""

    name: str
    caption: str
    frame: pd.DataFrame

    @cached_property
    def shown(self) -> pd.DataFrame:
        return show(self.frame)

    @cached_property
    def kinds(self) -> list[str]:
        """For each shown column: "number" where its cells are numbers, intervals or missing,
        "prose" where a line of one is long enough to be broken, else "words".
        """
        return [_kind(list(self.shown.iloc[:, i])) for i in range(self.shown.shape[1])]

    @property
    def long(self) -> bool:
        return len(self.frame) > _LONG_TABLE


@dataclass(frozen=True)
class Picture:
    """`name` becomes figures/<name>.png and .pdf; the caption is its text for those who cannot
    see it, and says what the figure shows without any other text.

    `raster`: the page holds it as PNG and not as SVG, for what is made of pixels.
    """

    name: str
    caption: str
    figure: Figure
    raster: bool = False

    @cached_property
    def png(self) -> bytes:
        return png(self.figure)

    @cached_property
    def data_uri(self) -> str:
        vector = b"" if self.raster else svg(self.figure)
        if vector and (len(vector) <= _VECTOR_LIMIT or len(vector) <= len(self.png)):
            return _data_uri("image/svg+xml", vector)
        return _data_uri("image/png", self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, which are 96 an inch."""
        width, height = self.figure.get_size_inches()
        return round(96 * width), round(96 * height)


@dataclass(frozen=True)
class Sample:
    """A test image and what was predicted for it."""

    png: bytes
    index: int  # in the data set's test set
    true: str
    predicted: str
    confidence: float  # the predicted class' probability

    @property
    def data_uri(self) -> str:
        return _data_uri("image/png", self.png)

    @property
    def percent(self) -> str:
        """Without decimals; what is not certain never reads 100 %."""
        return "> 99 %" if 0.995 <= self.confidence < 1 else f"{100 * self.confidence:.0f} %"


@dataclass(frozen=True)
class Gallery:
    """Images that a reader filters by their true and their predicted class."""

    caption: str
    samples: list[Sample]


@dataclass(frozen=True)
class Part:
    """What a section says about one launch, or about everything where `title` is empty."""

    title: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    gallery: Gallery | None = None


@dataclass(frozen=True)
class Section:
    title: str
    parts: list[Part]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """`lead` is what a reader reads first, set off from the sections. Where figures could not draw
    a name, a section at the end says what stands for it.
    """

    title: str
    sections: list[Section]
    lead: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [part for section in self.sections for part in section.parts]
        names = glyphs.prepare(picture.figure for part in parts for picture in part.pictures)
        if names:
            self.sections.append(_stand_ins(names))

    def write(self, out: Path) -> Path:
        """Write report.html, report.md, tables/, figures/ and their list; returns report.html's
        path.

        An earlier report in `out` is replaced whole: until the last file is written it stays as it
        is, and so it does where writing fails. Files of others beside it stay too. Raises
        InputError as `check_out` does, and where a file that is not a report's stands where one of
        this report belongs; OSError where it cannot be written.
        """
        with _replacing(Path(os.path.realpath(out))) as folder:
            sums: dict[str, str] = {}
            for name, content in self.files():
                if name in sums:
                    raise ValueError(f"two tables or figures are called {name}")
                sums[name] = _put(folder / name, content)
            _put(folder / MANIFEST, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
        return out / "report.html"

    def files(self) -> Iterator[tuple[str, str | bytes]]:
        """Name and content of every file of the report."""
        for part in (part for section in self.sections for part in section.parts):
            for table in part.tables:
                yield f"tables/{table.name}.csv", _csv(table)
                yield f"tables/{table.name}.tex", _latex(table)
            for picture in part.pictures:
                yield f"figures/{picture.name}.png", picture.png
                yield f"figures/{picture.name}.pdf", pdf(picture.figure)
        yield "report.md", self.markdown()
        yield "report.html", self.html()

    def html(self) -> str:
        css, js = (Markup((_TEMPLATES / name).read_text()) for name in ("report.css", "report.js"))
        # The policy allows this one style sheet and this one script, by their hashes.
        return _template("report.html.j2").render(
            page=self,
            css=css,
            css_source=_source(css),
            js=js,
            js_source=_source(js),
        )

    def markdown(self) -> str:
        return _template("report.md.j2", markdown).render(page=self)


def _stand_ins(names: dict[str, str]) -> Section:
    said = (
        "No font of the machine that wrote this report has the letters of these names, so that the "
        "figures have another in their place. With a font that has them (such as Noto Sans CJK for "
        "Chinese, Japanese and Korean) the next report draws them."
    )
    rows = pd.DataFrame({"in the figures": names.values(), "name": names.keys()})
    table = Table("names-in-figures", "What stands for which name in the figures", rows)
    return Section("Names in the figures", [Part(notes=[said], tables=[table])])


# --- the folder ------------------------------------------------------------------------------


def check_out(out: Path) -> None:
    """Raise the InputError with which a report could not be written to `out`; changes nothing.

    Refused are a file in the way, a folder that holds files and no report, or a report whose list
    is damaged, and one in which results of sweeps lie.
    """
    folder = Path(os.path.realpath(out))
    another = "choose another folder with --out DIR"
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError(f"cannot make the folder {folder}: a file is in the way", another)
    if there != folder or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder} holds files and no report", "choose an empty or a new folder with --out DIR"
        )
    _listed(folder)
    # They would be moved, perhaps while a sweep writes to them.
    if any(folder.rglob("plans/*.json")):
        raise InputError(f"{folder} holds results of sweeps", another)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` when the block ends without error.

    Between two renames there is no `folder` for an instant; who is killed in it leaves the earlier
    report in a hidden folder beside, which the next one puts back. Two at once do not mix: one of
    them wins.
    """
    check_out(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder)
    new = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        new.mkdir()
        yield new
        _swap(new, folder)
    except OSError as error:
        # The hidden folder's name helps nobody.
        error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    old = new.with_suffix(".old")
    if folder.exists():
        shutil.copymode(folder, new)
    for path in _foreign(folder, new) if folder.exists() else []:
        place = new / path.relative_to(folder)
        if place.exists() or any(parent.is_file() for parent in place.parents):
            raise InputError(f"{path} is in the way: no report wrote it", move_away(path, "mine"))
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException as error:
        with suppress(OSError):
            # Fails, as it should, where another report has taken the place.
            old.rename(folder)
        if isinstance(error, OSError) and storage_error(error) is None:
            # A folder that is mounted cannot be renamed, nor one that another has just filled.
            raise InputError(
                f"cannot replace the folder {folder}: {error.strerror}",
                "choose another folder with --out DIR",
            ) from None
        raise
    _clear(old, folder)


def _listed(folder: Path) -> set[str]:
    """The names of the files in a report's folder that the report wrote."""
    path = folder / MANIFEST
    try:
        text = read_file(path).decode()
    except FileNotFoundError:
        return {MANIFEST}
    except UnicodeDecodeError:
        text = ""
    if not re.fullmatch(r"(?:[0-9a-f]{64}  [^\n]+\n)+", text):
        raise InputError(
            f"{path}, the list of a report's files, is damaged",
            f"choose another folder with --out DIR, or remove the folder {folder}",
        )
    return {MANIFEST, *(line[66:] for line in text.split("\n"))}  # after 64 digits and two spaces


def _foreign(folder: Path, other: Path) -> list[Path]:
    """What the report in `folder` did not write: files, and whole folders, even empty ones, where
    it wrote nothing below them and `other`, to which they are to move, has no such folder.
    """
    ours = _listed(folder)
    shared = {str(parent) for name in ours for parent in PurePosixPath(name).parents}

    def below(here: Path) -> Iterator[Path]:
        for path in sorted(here.iterdir()):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_dir():
                if name not in ours:
                    yield path
            elif name in shared or (other / name).is_dir():
                yield from below(path)
            else:
                yield path

    return list(below(folder))


def _clear(old: Path, folder: Path) -> None:
    """Remove an earlier report; move what others put in it to the one that took its place."""
    for path in _foreign(old, folder) if old.exists() else []:
        place = folder / path.relative_to(old)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copymode(path.parent, place.parent)
        if place.exists():
            return  # put there since: both are kept, this one in the hidden folder
        path.rename(place)
    if old.exists():
        # From here on it is a leftover like any other, whatever of it a kill leaves.
        rest = old.rename(old.with_suffix(".part"))
        shutil.rmtree(rest, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Finish what a report that was killed has left beside `folder`."""
    hidden = f".{glob.escape(folder.name)}.*"
    for old in sorted(folder.parent.glob(f"{hidden}.old")):
        if folder.exists():
            _clear(old, folder)
        else:
            old.rename(folder)
    parts = list(folder.parent.glob(f"{hidden}.part"))
    if not parts:
        return
    # By the file server's own clock, which this machine's need not agree with.
    with tempfile.TemporaryFile(dir=folder.parent) as file:
        now = os.fstat(file.fileno()).st_mtime
    for part in parts:
        # Younger ones can be of a report that is being written now.
        with suppress(FileNotFoundError):
            if now - part.stat().st_mtime > 3600:
                shutil.rmtree(part, ignore_errors=True)


def _put(path: Path, content: str | bytes) -> str:
    """Write a file; returns the SHA-256 of its bytes in hexadecimal."""
    # A lone surrogate, as a file's name can hold, has no UTF-8.
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, lambda file: file.write(data))
    return hashlib.sha256(data).hexdigest()


# --- formats ---------------------------------------------------------------------------------

# As tables.show writes them: a number, a mean ± sd, an interval, n of planned.
_PLAIN = r"[+-]?(?:\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|inf)"
_NUMERIC = re.compile(rf"{_PLAIN}(?: (?:±|to|of) {_PLAIN})?(?: %)?")


def _kind(cells: list[str]) -> str:
    known = [cell for cell in cells if cell not in ("", "-")]
    if known and all(map(_NUMERIC.fullmatch, known)):
        return "number"
    lines = [line for cell in known for line in cell.splitlines()]
    return "prose" if max(map(len, lines), default=0) > _LONG_LINE else "words"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _source(text: str) -> Markup:
    """The source expression by which a content policy allows an inline sheet or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")


@cache
def _template(name: str, finalize: Callable[[object], str] | None = None) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=finalize is None,
        finalize=finalize or without_controls,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


# C0 and C1 but tab and line breaks: a terminal obeys them, XML and LaTeX refuse them. And what
# turns the direction of the text behind it, so that it reads as another.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def without_controls(value: object) -> object:
    """A text without them; what is markup already, and what is no text, as it is."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return _CONTROLS.sub("", str(value)) if plain else value


def markdown(value: object) -> str:
    """Text that no Markdown reader takes for markup or a link, in a table's cell or out of it."""
    text = _CONTROLS.sub("", str(value)).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", text)
    text = re.sub(r"^(\d+)\.", r"\1\\.", text)  # no list's first item
    text = text.replace("://", "&#58;//").replace("@", "&#64;")
    text = re.sub(r"(www)\.", r"\1&#46;", text, flags=re.IGNORECASE)
    return re.sub(r"\r\n|[\r\n]", "<br>", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def latex(value: object) -> str:
    """Text for LaTeX, a line break as a semicolon."""
    text = "".join(_LATEX.get(char, char) for char in _CONTROLS.sub("", str(value)))
    return re.sub(r"[\r\n]+", "; ", text)


def _latex(table: Table) -> str:
    """A tabular for `booktabs`."""
    rows = [" & ".join(map(latex, row)) for row in table.shown.itertuples(index=False)]
    # After a row's end LaTeX takes a star or a bracket for an argument of that end.
    rows = ["{}" + row if row.startswith(("*", "[")) else row for row in rows]
    sides = "".join("r" if kind == "number" else "l" for kind in table.kinds)
    return "\n".join(
        [
            "% " + " ".join(_CONTROLS.sub("", table.caption).split()),
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(map(latex, table.shown.columns)) + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _csv(table: Table) -> str:
    """Every number in its own column, nothing where one is missing, a line break as a semicolon.

    An apostrophe stands before text that a spreadsheet would take for a formula and run, such as a
    trial named `=1+1`.
    """
    frame = show(table.frame, merge=False, missing="")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [frame.columns, *frame.to_numpy()]:
        writer.writerow(_cell(str(value)) for value in row)
    return text.getvalue()


def _cell(text: str) -> str:
    text = _CONTROLS.sub("", text)
    formula = re.match(r"[\t\r]|\s*[=+@-]", text) and not _NUMERIC.fullmatch(text)
    return "'" * bool(formula) + re.sub(r"[\r\n]+", "; ", text)
