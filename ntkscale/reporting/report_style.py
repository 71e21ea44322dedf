"""How the report looks: readable by day, by night, on a telephone and on paper."""

CSS = """\
:root {
  color-scheme: light dark;
  --text: #1b1f24; --faint: #59636e; --page: #ffffff; --line: #d5dae0; --shade: #f4f6f8;
  --link: #0056a8; --pass: #116329; --fail: #b3151c; --rough: #8a5a00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --text: #e4e8ec; --faint: #9aa5b1; --page: #14171a; --line: #363c43; --shade: #1e2327;
    --link: #79b8ff; --pass: #56d364; --fail: #ff7b72; --rough: #e3b341;
  }
}
* { box-sizing: border-box; }
body {
  max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  color: var(--text); background: var(--page); overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 {
  font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line);
}
p { max-width: 46rem; margin: .6rem 0; }
a { color: var(--link); }
nav ol {
  margin: 1.25rem 0 0; padding: .75rem 1rem .75rem 2.25rem;
  background: var(--shade); border-radius: .4rem;
}
/* A shadow at the edge says that the table goes on there. */
.table {
  background:
    linear-gradient(to right, var(--page) 30%, transparent) left / 3rem 100%,
    linear-gradient(to left, var(--page) 30%, transparent) right / 3rem 100%,
    linear-gradient(to right, rgb(120 130 140 / .35), transparent) left / .9rem 100%,
    linear-gradient(to left, rgb(120 130 140 / .35), transparent) right / .9rem 100%;
  background-attachment: local, local, scroll, scroll; background-repeat: no-repeat;
  position: relative; overflow-x: auto; margin: 1rem 0 .25rem; }
table {
  width: max-content; border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums;
}
table.words { width: auto; } table.words td { min-width: 7rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td {
  max-width: 24rem; padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top;
  overflow-wrap: normal;
}
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--line); }
th.number, td.number { text-align: right; white-space: nowrap; }
.facts th { font-weight: 400; color: var(--faint); white-space: nowrap; }
.facts td { max-width: 36rem; overflow-wrap: anywhere; }
.note, figcaption { color: var(--faint); font-size: .85rem; margin: .25rem 0 1rem; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .rough { color: var(--rough); }
.said {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
figure { margin: 1.25rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: .3rem; }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; }
.charts { display: none; }
.panels {
  display: grid; gap: 0 1rem;
  grid-template-columns: repeat(
    auto-fit, minmax(min(100%, max(18rem, 95% / var(--columns) - 1rem)), 1fr)
  );
}
.panel {
  min-width: 0; max-width: 48rem; margin-bottom: 1.25rem;
  display: grid; grid-template-rows: subgrid; grid-row: span 3; grid-template-columns: 100%;
}
.head { align-self: end; display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: center; }
.head strong { flex: 1 1 auto; font-size: .9rem; }
.tools { display: flex; gap: .3rem; margin-left: auto; }
.plot { height: 19rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .5rem; padding: .25rem 0 0 .5rem; }
.tools button, .legend button {
  font: inherit; font-size: .8rem; line-height: 1.3; color: var(--text); cursor: pointer;
  background: transparent; border: 1px solid transparent; border-radius: .3rem;
  padding: .2rem .4rem; text-align: left;
}
.tools button { border-color: var(--line); color: var(--faint); white-space: nowrap; }
.tools button[aria-pressed="true"] { background: var(--shade); color: var(--text); }
.tools button:hover, .legend button:hover { border-color: var(--faint); }
.legend svg { vertical-align: -1px; margin-right: .4rem; }
.legend button[aria-pressed="false"] { opacity: .5; text-decoration: line-through; }
button:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
.data { font-size: .85rem; color: var(--faint); margin: .5rem 0 0; }
@media (pointer: coarse) { .tools button, .legend button { padding: .5rem .5rem; } }
/* A picture of several panels would be too small to read. */
@media screen and (max-width: 48rem) {
  figure:not(.live) { overflow-x: auto; }
  figure:not(.live) > img { max-width: max(100%, var(--readable)); }
  figcaption { position: sticky; left: 0; }
}
@media screen {
  .live > img { display: none; }
  .live > .charts { display: block; }
}
@media print {
  nav { display: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  .table { overflow: visible; } table { width: auto; font-size: .65rem; }
  th, td { padding-right: .4rem; overflow-wrap: anywhere; }
  th.number, td.number { white-space: normal; }
}
"""
