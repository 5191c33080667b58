"""One self-contained HTML page of a grid's results: no server, no address outside of it.

`data` gathers what the page tells, `embed` makes it safe to stand in HTML, `page.html.jinja`, `page.css` and the
scripts show it. Charts are plotly's, whose script is taken from the installed package.
"""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from bench.report.page.data import page_data
from bench.report.page.embed import downloads, json_text, pictures, script_hash
from bench.report.tables.contents import Contents
from bench.store.files import write_bytes

SCRIPTS = ("base.js", "tables.js", "curves.js", "images.js", "differences.js")


def write_page(
    contents: Contents, path: Path, tables_folder: Path, figures_folder: Path, captions: Mapping[str, str]
) -> Path:
    """Write the page of a grid to `path`, which is returned.

    Args:
        tables_folder, figures_folder: what lies there is embedded, for download and as pictures; the page tells where
            there is nothing, and which pictures are too large.
        captions: of pictures, by their names without a suffix.
    """
    data = page_data(contents.results, contents)
    shown, left_out = pictures(figures_folder)
    templates = Environment(loader=PackageLoader("bench.report.page", "."), undefined=StrictUndefined, autoescape=True)
    scripts = [get_plotlyjs(), "\n".join(_source(name) for name in SCRIPTS)]
    text = templates.get_template("page.html.jinja").render(
        page=data,
        json=json_text(data),
        style=_source("page.css"),
        scripts=scripts,
        hashes=[script_hash(script) for script in scripts],
        downloads=downloads(tables_folder),
        pictures=[(file, captions.get(Path(file.name).stem, "")) for file in shown],
        left_out=left_out,
    )
    write_bytes(path, text.encode(errors="surrogatepass"))
    return path


def _source(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
