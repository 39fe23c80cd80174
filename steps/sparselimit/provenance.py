"""Where results come from: from a figure to its tables, their files, and what made each of these.

Every result file names the command, code, configuration, device and libraries that made it, and in
its configuration the files it was made from. So whatever is behind a figure is found by following
names from file to file.
"""

import html
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from sparselimit import store
from sparselimit.console import duration
from sparselimit.kinds import KINDS
from sparselimit.pages import page
from sparselimit.shards import collapsed

# What each file tells of itself.
ATTRIBUTES = (
    *("kind", "version", "created", "command", "code", "config", "device", "seconds"),
    "libraries",
)
_MOST_TEXT = 3000  # characters of a command that are shown


@dataclass(frozen=True)
class Origin:
    """What a result file tells of itself: its attributes, and the result files it was made from."""

    path: str
    attributes: dict[str, object]
    made_from: list[str]

    @classmethod
    def of(cls, path: str) -> "Origin":
        """Raises StoreError for what is no result file, or one that lacks an attribute."""
        file = store.browse(path, *KINDS)
        lacking = [name for name in ATTRIBUTES if file.attributes.get(name) in (None, "")]
        if lacking:
            raise store.StoreError(
                f"{path}: does not tell its {', '.join(lacking)}; delete it and run its step again"
            )
        attributes = {name: file.attributes[name] for name in ATTRIBUTES}
        return cls(path, attributes, sorted(set(_files_in(file.config))))

    @property
    def config(self) -> dict:
        return json.loads(str(self.attributes["config"]))

    @property
    def seconds(self) -> float:
        return float(str(self.attributes["seconds"]))

    @property
    def created(self) -> str:
        return str(self.attributes["created"])

    @property
    def pattern(self) -> str:
        """The path, for all shards alike."""
        return collapsed([self.path])[0]


def _files_in(value: object) -> Iterator[str]:
    """The result files that a configuration names, at any depth."""
    if isinstance(value, str):
        if value.endswith(".h5"):
            yield value
    elif isinstance(value, Mapping):
        yield from _files_in(list(value.values()))
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _files_in(entry)


def origins(paths: Iterable[str]) -> dict[str, Origin]:
    """The files and all that these were made from, as far as that is at hand, by path.

    Raises StoreError as `Origin.of`.
    """
    found: dict[str, Origin] = {}
    pending = list(paths)
    while pending:
        path = pending.pop()
        if path not in found:
            found[path] = Origin.of(path)
            pending += [earlier for earlier in found[path].made_from if Path(earlier).is_file()]
    return dict(sorted(found.items()))


def table(found: Mapping[str, Origin]) -> pd.DataFrame:
    """A row for each file: its path, its attributes, and what it was made from."""
    rows = [
        {"file": path, **origin.attributes, "made_from": " ".join(origin.made_from)}
        for path, origin in found.items()
    ]
    return pd.DataFrame(rows, columns=["file", *ATTRIBUTES, "made_from"])


# --- The page ------------------------------------------------------------------------------------

_STYLE = """
body { max-width: 60em; }
section { margin: 0.8em 0; padding-left: 0.8em; border-left: 3px solid #ddd; }
section:target { border-color: #d55e00; }
h3 { font-size: 1em; margin: 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 7em 1fr; gap: 0.1em 1em; margin: 0.2em 0; }
dt { color: #595959; } dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: 12px; white-space: pre-wrap; }
"""
# By name the title in the report, and what it is made from: tables by their path (CSV), result
# files with a `*` for the number of a shard.
Entries: TypeAlias = Mapping[str, tuple[str, Sequence[str]]]


def as_page(figures: Entries, tables: Entries, found: Mapping[str, Origin]) -> str:
    """A page with a chain of links from each figure to the files behind it, those of `origins`."""
    seconds = sum(origin.seconds for origin in found.values())
    body = [
        "<h1>Provenance</h1>",
        f"<p>{len(figures)} figures and {len(tables)} tables, made from {len(found)} files, which "
        f"took {duration(seconds)} to make. Links lead from a figure to its tables, to their "
        "files, and to what these were made from.</p>",
    ]
    for heading, entries in (("Figures", figures), ("Tables", tables)):
        body.append(f"<h2>{heading}</h2>")
        for name, (title, parts) in entries.items():
            facts = {"made from": ", ".join(_link(part, tables) for part in parts)}
            body.append(_section(f"{heading[:-1].lower()}-{name}", title, facts))
    body.append("<h2>Files</h2>")
    by_pattern = sorted(found.values(), key=lambda origin: (origin.pattern, origin.path))
    for pattern, shards in groupby(by_pattern, lambda origin: origin.pattern):
        body.append(_section(pattern, pattern, _facts(list(shards), found)))
    return page("Provenance", "\n".join(body), _STYLE)


def _facts(shards: Sequence[Origin], found: Mapping[str, Origin]) -> dict[str, str]:
    """What is told of a file; or of shards, whose first stands for all but in what differs."""

    def different(name: str) -> str:
        return ", ".join(sorted({str(shard.attributes[name]) for shard in shards}))

    first, n = shards[0], len(shards)
    command = str(first.attributes["command"])
    if len(command) > _MOST_TEXT:
        command = f"{command[:_MOST_TEXT]} ... (whole in provenance.csv)"
    options = {key: value for key, value in first.config.items() if not list(_files_in(value))}
    libraries = json.loads(str(first.attributes["libraries"]))
    seconds = f"{sum(shard.seconds for shard in shards):.1f}"
    facts = {
        "kind": f"{first.attributes['kind']}, version {first.attributes['version']}",
        "command": command,
        "code": different("code"),
        "config": json.dumps(options),
        "device": different("device"),
        "seconds": seconds if n == 1 else f"{seconds} in all, {n} shards",
        "created": max(shard.created for shard in shards),
        "libraries": ", ".join(f"{name} {number}" for name, number in libraries.items()),
    }
    shown = {name: html.escape(text) for name, text in facts.items()}
    for name in ("command", "config"):
        shown[name] = f"<code>{shown[name]}</code>"
    shown["made from"] = ", ".join(_earlier(shards, found)) or "nothing before it"
    return shown


def _earlier(shards: Sequence[Origin], found: Mapping[str, Origin]) -> Iterator[str]:
    """Links to what shards were made from, with a word where that is no longer what is there."""
    paths = {path: shard for shard in shards for path in shard.made_from}
    for pattern in collapsed(paths):
        of_pattern = [path for path in paths if collapsed([path]) == [pattern]]
        if any(path not in found for path in of_pattern):
            yield f"{html.escape(pattern)} (not here)"
        elif any(found[path].created > paths[path].created for path in of_pattern):
            yield f"{_link(pattern)} (made again since)"
        else:
            yield _link(pattern)


def _link(part: str, tables: Container[str] = ()) -> str:
    name = Path(part).stem
    is_table = part.endswith(".csv") and name in tables
    target, text = (f"table-{name}", f"table {name}") if is_table else (part, part)
    return f'<a href="#{html.escape(target)}">{html.escape(text)}</a>'


def _section(anchor: str, title: str, facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    heading = f"<h3>{html.escape(title)}</h3>"
    return f'<section id="{html.escape(anchor)}">{heading}<dl>{rows}</dl></section>'
