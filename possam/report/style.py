"""Style and script of the page. Nothing is fetched: system fonts, and a few lines of plain JavaScript.

Colors that stand beside each other can be told apart with color-vision deficiencies (tests/report/test_style.py).
"""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2129; --faint: #5c6470; --line: #d9dde3; --soft: #f3f5f8; --mark: #2563c9;
  --right: #00798c; --misnamed: #d97f00; --missed: #b9bfc9; --unseen: #9c2f6b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --ink: #e6e9ee; --faint: #9aa3b0; --line: #333a45; --soft: #1d222a; --mark: #6ea0f5;
    --right: #3fb8c9; --misnamed: #f0a030; --missed: #4b5360; --unseen: #f5a3c0;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; max-width: 75ch; }
.faint { color: var(--faint); font-weight: 400; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .75rem 0 0; }
a { color: var(--mark); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.card { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span { color: var(--faint); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 600; background: var(--paper); }
th.word, td.word { text-align: left; }
td.word { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
td.word.short { min-width: 0; white-space: nowrap; }
tbody tr:hover { background: var(--soft); }
.range { display: block; color: var(--faint); font-size: .8rem; line-height: 1.2; font-weight: 400; }
.files { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; overflow-wrap: anywhere; }
.long { max-height: 34rem; overflow: auto; border: 1px solid var(--line); border-radius: .5rem; }
.long table { width: 100%; }
.long thead th { position: sticky; top: 0; z-index: 1; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--mark); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.bar { display: inline-flex; width: 9rem; height: .7rem; border-radius: .2rem; overflow: hidden;
  background: var(--soft); vertical-align: middle; }
.bar.wide { width: min(32rem, 45vw); height: 1rem; }
.fill { display: inline-block; height: 100%; background: var(--mark); }
.fill.unseen { background: var(--unseen); }
.fill.right, .key.right { background: var(--right); }
.fill.misnamed, .key.misnamed { background: var(--misnamed); }
.fill.missed, .key.missed { background: var(--missed); }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; vertical-align: -.05rem;
  margin-right: .3rem; }
.keys { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; color: var(--faint); }
.tag { color: var(--unseen); font-size: .85rem; }
.choices { display: flex; gap: .5rem; margin: .5rem 0; flex-wrap: wrap; }
.choices button { font: inherit; color: inherit; background: var(--soft); border: 1px solid var(--line);
  border-radius: 1rem; padding: .1rem .8rem; cursor: pointer; }
.choices button[aria-pressed=true] { border-color: var(--mark); color: var(--mark); }
.two { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font-size: 12px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--faint); stroke-width: 1; }
svg .ideal { stroke: var(--faint); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .dot { fill: var(--mark); opacity: .22; }
svg .mark { fill: var(--mark); }
svg circle.mark { fill: var(--misnamed); stroke: var(--paper); stroke-width: 1.5; }
svg .mean { fill: none; stroke: var(--misnamed); stroke-width: 2; }
.thumbs { display: flex; gap: .35rem; }
.thumbs img { width: 72px; height: 72px; object-fit: contain; border-radius: .25rem; background: var(--soft); }
.case { margin: 1rem 0 1.75rem; }
.case h4 { margin: 0 0 .35rem; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .6rem; }
figure { margin: 0; }
figure img { width: 100%; height: auto; display: block; border-radius: .35rem; cursor: zoom-in; }
figure.large { grid-column: 1 / -1; }
figure.large img { cursor: zoom-out; }
figcaption { color: var(--faint); font-size: .85rem; }
.faults { margin: .35rem 0 0; padding-left: 1.1rem; }
.matrix td, .matrix th { padding: 0; width: 1.7rem; min-width: 1.7rem; height: 1.7rem; text-align: center;
  font-size: .72rem; border: 1px solid var(--paper); }
.matrix th.word { padding-right: .5rem; text-align: right; width: auto; font-weight: 400; font-size: .8rem; border: 0; }
.matrix thead th { height: auto; vertical-align: bottom; border: 0; font-weight: 400; font-size: .8rem; }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg); padding-top: .3rem; }
.matrix td { background: var(--soft); }
.matrix tbody tr:hover { background: none; }
.note { border-left: 4px solid var(--misnamed); background: var(--soft); padding: .5rem .9rem; border-radius: .25rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
  overflow: auto; max-height: 30rem; font-size: .82rem; line-height: 1.4; }
@media print { .long { max-height: none; } .choices { display: none; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const words = head.classList.contains("word"), now = head.getAttribute("aria-sort");
    const down = words ? now === "ascending" : now !== "descending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (words) return down ? y.localeCompare(x) : x.localeCompare(y);
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? y - x : x - y;
    };
    body.append(...[...body.rows].sort(order));
  }));
}
for (const picture of document.querySelectorAll("figure img"))
  picture.addEventListener("click", () => picture.parentNode.classList.toggle("large"));
for (const choice of document.querySelectorAll(".choices button")) {
  choice.addEventListener("click", () => {
    for (const other of choice.parentNode.children) other.setAttribute("aria-pressed", other === choice);
    const wanted = choice.dataset.show;
    for (const row of document.getElementById(choice.parentNode.dataset.table).tBodies[0].rows)
      row.hidden = wanted !== "" && !row.dataset.groups.split(" ").includes(wanted);
  });
}
"""
