"""How the report looks: readable by day, by night, on a telephone and on paper."""

CSS = """\
:root {
  color-scheme: light dark;
  --text: #1b1f24; --faint: #59636e; --page: #ffffff; --line: #d5dae0; --shade: #f4f6f8;
  --link: #0056a8; --pass: #116329; --fail: #b3151c; --rough: #8a5a00;
}
@media (prefers-color-scheme: dark) {
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
.table { position: relative; overflow-x: auto; margin: 1rem 0 .25rem; }
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
@media print { nav { display: none; } figure, tr { break-inside: avoid; } }
"""
