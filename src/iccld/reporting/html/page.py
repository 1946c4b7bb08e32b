"""The page around the sections: one file, no script, nothing fetched, light and dark."""

from __future__ import annotations

from iccld import __version__
from iccld.reporting.html.markup import Child, Html, el, join

# Okabe and Ito's palette, a little darker on white and lighter on black: told apart by color-blind readers too.
_CSS = """
:root { color-scheme: light dark;
  --page: #fff; --ink: #1d2126; --faint: #5b6470; --line: #d8dde3; --soft: #f4f6f8; --warn: #fff3d6;
  --c0: #0072b2; --c1: #c44e00; --c2: #00795a; --c3: #a8508a; --c4: #8a6a00; --c5: #2a8cc4; --on: #fff; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171b; --ink: #e6e9ed; --faint: #9aa4b0; --line: #343b44; --soft: #1d2228; --warn: #3a3013;
  --c0: #56b4e9; --c1: #f08a3c; --c2: #35c79b; --c3: #e39ac8; --c4: #e0bd3f; --c5: #9fd0f5; --on: #0b0d10; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1180px; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .3rem 0; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .5rem; padding-top: .6rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 75ch; } a { color: var(--c0); }
.note, .lead, footer { color: var(--faint); } .note { font-size: .87rem; }
.warn { background: var(--warn); border-radius: 6px; padding: .5rem .8rem; max-width: none; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .92rem; margin: .6rem 0; }
nav a { padding: .3rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: .6rem; margin: .8rem 0; }
.tile { background: var(--soft); border-radius: 8px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: .85rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: .1rem 1.5rem;
  margin: .6rem 0; font-size: .92rem; }
dl div { display: grid; grid-template-columns: 7.5rem 1fr; gap: .6rem; padding: .15rem 0;
  border-bottom: 1px solid var(--line); } dt { color: var(--faint); } dd { margin: 0; }
.scroll { overflow-x: auto; margin: .6rem 0; } .scroll:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding: .2rem 0; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td { white-space: nowrap; } tbody th { font-weight: 500; min-width: 6.5rem; }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
th:first-child { text-align: left; } tr.total th, tr.total td { font-weight: 700; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em;
  border: 1px solid var(--line); vertical-align: -.05em; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85rem; margin: .4rem 0; }
.named { white-space: nowrap; }
table.bars { width: 100%; max-width: 820px; } table.bars thead th { white-space: nowrap; }
summary { cursor: pointer; color: var(--c0); padding: .4rem 0; }
td.bar { width: 60%; min-width: 90px; padding-left: .2rem; }
.track { background: var(--soft); border-radius: 3px; margin: 2px 0; position: relative; }
.fill { height: 9px; border-radius: 3px; min-width: 1px; }
.spread { position: absolute; top: 3px; height: 3px; background: var(--ink); opacity: .65; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: .8rem 1.2rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .87rem; }
svg { display: block; width: 100%; height: auto; max-width: 460px; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--faint); }
.grid { stroke: var(--line); stroke-width: 1; } .ref { stroke: var(--faint); stroke-dasharray: 4 3; }
.plot { fill: none; stroke-width: 2; stroke-linejoin: round; } .raw { stroke-width: 1; opacity: .3; }
table.matrix td, table.matrix th { padding: .2rem .25rem; font-size: .76rem; border: 1px solid var(--line); }
table.matrix td { min-width: 2.2rem; text-align: center;
  background: color-mix(in srgb, var(--c0) calc(var(--v, 0) * 100%), var(--page)); }
table.matrix td.high { color: var(--on); } table.matrix td.own { outline: 2px solid var(--ink); outline-offset: -2px; }
table.matrix thead th { writing-mode: vertical-rl; text-align: left; padding: .4rem .2rem; }
table.matrix thead th:first-child { writing-mode: horizontal-tb; } table.matrix tbody th { white-space: nowrap; }
.example { margin: .8rem 0 1.3rem; } .example > figcaption { margin-bottom: .25rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 155px), 1fr)); gap: .4rem; }
.panels img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--soft); }
.run { margin: .5rem 0 .2rem; font-size: .87rem; } .panels figcaption { color: var(--faint); }
code { font-size: .92em; background: var(--soft); padding: .05em .3em; border-radius: 4px; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .6rem; font-size: .85rem; }
@media (min-width: 700px) { .same .panels { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 480px) { .panels { grid-template-columns: 1fr 1fr; } dl div { grid-template-columns: 6.5rem 1fr; }
  table.lists, .lists tbody, .lists tr, .lists th, .lists td { display: block; } .lists thead { display: none; }
  .lists tr { margin: 0 0 .8rem; } .lists tbody th { padding: .25rem 0; overflow-wrap: anywhere; }
  .lists .named { white-space: normal; }
  .lists td { display: flex; justify-content: space-between; gap: 1rem; padding: .15rem 0; white-space: normal; }
  .lists td::before { content: attr(data-label); color: var(--faint); text-align: left; }
  table.bars tbody th { min-width: 0; white-space: normal; overflow-wrap: anywhere; }
  td.bar { width: auto; min-width: 48px; }
  table.bars td, table.bars th { padding-left: .25rem; padding-right: .25rem; } .bars .named { white-space: normal; }
  table.matrix { table-layout: fixed; width: 100%; } table.matrix thead th:first-child { width: 4.4rem; }
  table.matrix td { min-width: 0; padding: .15rem 0; font-size: .58rem; }
  table.matrix tbody th { min-width: 0; white-space: normal; overflow-wrap: anywhere; font-size: .66rem; } }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
# Even a name that slipped past the escaping could load or run nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_page(title: str, *content: Child) -> str:
    """Makes the whole file.

    Args:
        title: of the page, as text.
        *content: the sections.
    """
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", Html(_CSS)),
    )
    footer = el(
        "footer", f"Written by iccld {__version__}. This file is whole: it loads nothing and runs no script."
    )
    body = el("body", el("header", el("h1", title)), el("main", *content), footer)
    return join(Html("<!doctype html>\n"), el("html", head, body, lang="en"), Html("\n"))


def contents(entries: list[tuple[str, str]]) -> Html:
    """Links to sections: (id, title)."""
    return el("nav", *(el("a", title, href=f"#{key}") for key, title in entries), aria_label="contents")
