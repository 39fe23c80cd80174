"""Pages of the report: HTML that needs no other file and no network, one template for all tables.

A table travels as its CSV, packed, since the report shows no page of more than about 1 MB; the page
unpacks it, and what is saved from there is that CSV to the byte.
"""

import base64
import gzip
import html

import pandas as pd

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #222; }
.text { text-align: left; }
"""

_TABLE_STYLE = """
th { position: sticky; top: 0; padding: 0; background: #fff; }
th button { font: inherit; font-weight: 600; width: 100%; padding: 0.4em 0.8em; text-align: inherit;
  border: 0; background: none; cursor: pointer; }
th button::after { content: "\\2195"; margin-left: 0.3em; color: #767676; }
[aria-sort=ascending] button::after { content: "\\2191"; color: #222; }
[aria-sort=descending] button::after { content: "\\2193"; color: #222; }
th button:hover { background: #eee; }
header { display: flex; flex-wrap: wrap; gap: 1em; align-items: baseline; margin-bottom: 0.8em; }
h1 { font-size: 1.2em; margin: 0; }
header button, header input { font: inherit; padding: 0.2em 0.6em; }
"""

_TABLE_SCRIPT = """
"use strict";
const SHOWN = 500;  // rows drawn at first: tables can have thousands
const packed = document.getElementById("data");
const table = document.querySelector("table"), more = document.getElementById("more");
const filter = document.getElementById("filter"), extent = document.getElementById("extent");
let rows = [], order = [], numeric = [], limit = SHOWN;

async function unpack() {
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function parse(csv) {  // RFC 4180
  const lines = [[]], cell = /(?:"((?:[^"]|"")*)"|([^",\\n]*))(,|\\n)/g;
  for (const [, quoted, plain, end] of csv.matchAll(cell)) {
    lines.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\\n") lines.push([]);
  }
  return lines.slice(0, -1);
}

function shown(text, column) {  // large and whole numbers as such, others to four digits
  if (text === "") return "\\u2013";
  if (!numeric[column]) return text;
  const value = Number(text);
  const whole = Number.isInteger(value) || Math.abs(value) >= 1e4;
  if (whole) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

function draw() {
  const wanted = filter.value.toLowerCase();
  const found = order.filter((row) => row.some((text) => text.toLowerCase().includes(wanted)));
  table.tBodies[0].replaceChildren(...found.slice(0, limit).map((row) => {
    const line = document.createElement("tr");
    row.forEach((text, column) => {
      const cell = line.insertCell();
      cell.textContent = shown(text, column);
      if (!numeric[column]) cell.className = "text";
    });
    return line;
  }));
  const of = found.length === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
  extent.textContent = `${found.length.toLocaleString("en")}${of} rows`;
  more.hidden = found.length <= limit;
  more.textContent = `Show all ${found.length.toLocaleString("en")} rows`;
}

function sort(column, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const sign = descending ? -1 : 1;
  const compare = numeric[column] ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en");
  order = [...rows].sort(({[column]: a}, {[column]: b}) =>  // gaps last, either way
    a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b));
  draw();
}

function save(csv) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  link.download = packed.dataset.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

unpack().then((csv) => {
  const [names, ...content] = parse(csv);
  rows = order = content;
  numeric = names.map((_, column) =>
    rows.every((row) => row[column] === "" || !Number.isNaN(Number(row[column]))));
  const headings = table.createTHead().insertRow();
  names.forEach((name, column) => {
    const heading = document.createElement("th"), button = document.createElement("button");
    heading.scope = "col";
    if (!numeric[column]) heading.className = "text";
    button.textContent = name;
    button.onclick = () => sort(column, heading);
    heading.append(button);
    headings.append(heading);
  });
  filter.oninput = draw;
  more.onclick = () => { limit = Infinity; draw(); };
  document.getElementById("save").onclick = () => save(csv);
  draw();
});
"""

_TABLE = """<header><h1>{title}</h1><span id="extent" role="status"></span>
<input id="filter" type="search" placeholder="Filter rows" aria-label="Filter rows">
<button id="save">Download CSV</button></header>
<table><tbody></tbody></table>
<p><button id="more" hidden></button></p>
<script type="application/gzip" id="data" data-name="{name}.csv">{packed}</script>
<script>{script}</script>"""


def page(title: str, body: str, style: str = "") -> str:
    """A page of its own; `body` and `style` are put in as they are."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def picture(svg: str, text: str) -> str:
    """A figure (SVG) as a part of a page; `text` says what it shows where it is not seen."""
    packed = base64.b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{packed}" alt="{html.escape(text)}">'


def table_page(name: str, table: pd.DataFrame) -> str:
    """A page that shows a table: it can be sorted by any column, filtered, and saved as CSV.

    Numbers are shown rounded; what is sorted and saved is exact.
    """
    title = name.replace("_", " ")
    csv = table.to_csv(index=False).encode()
    body = _TABLE.format(
        title=html.escape(title),
        name=name,
        packed=base64.b64encode(gzip.compress(csv, mtime=0)).decode(),
        script=_TABLE_SCRIPT,
    )
    return page(title, body, _TABLE_STYLE)
