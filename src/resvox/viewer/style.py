"""The style sheet of the pages: light and dark, without external fonts or files."""

STYLE = """
:root {
  --paper: #f6f8fa; --card: #ffffff; --ink: #1c2733; --soft: #566474; --rule: #d5dbe1;
  --accent: #0b5f94; --notice: #fff6e0; --notice-rule: #c98a00; --code: #eef2f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0e141b; --card: #161d26; --ink: #e4e9ee; --soft: #a3b0bd; --rule: #35414e;
    --accent: #6cbbee; --notice: #2a2415; --notice-rule: #d9a02e; --code: #10171f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.75rem; }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 0.4rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 0.75rem; }
h3 { font-size: 1rem; margin: 0 0 0.4rem; color: var(--soft); font-weight: 600; }
a { color: var(--accent); }
p { margin: 0 0 0.75rem; max-width: 46rem; }
.lead { font-size: 1.12rem; color: var(--soft); margin-bottom: 1.5rem; }
section, .notice { background: var(--card); border: 1px solid var(--rule); border-radius: 12px;
  padding: 1.5rem; margin: 0 0 1.25rem; }
.notice { background: var(--notice); border-color: var(--notice-rule); border-left-width: 6px; }
.notice p:last-child, section > p:last-child { margin-bottom: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.9rem;
  margin: 0 0 1.25rem; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 0.9rem 1.1rem; }
.tile dt { color: var(--soft); font-size: 0.9rem; }
.tile dd { margin: 0; font-size: 1.6rem; font-weight: 650; white-space: nowrap; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile dd.note { font-size: 0.84rem; font-weight: 400; white-space: normal; color: var(--soft); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.5rem; }
.columns ul { margin: 0; padding-left: 1.15rem; }
.columns li { margin-bottom: 0.35rem; }
.scroll { overflow-x: auto; }
.scroll:not(:last-child), .columns:not(:last-child) { margin-bottom: 1.1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.92rem; padding-bottom: 0.6rem; }
th, td { padding: 0.5rem 0.9rem 0.5rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: 0.88rem; font-weight: 600; }
tbody th { font-weight: 550; }
tbody tr:last-child > * { border-bottom: 0; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 3px; margin-right: 0.6em;
  border: 1px solid rgba(0, 0, 0, 0.25); }
figure { margin: 0 0 1rem; }
figure:last-child { margin-bottom: 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 8px; }
figcaption { color: var(--soft); font-size: 0.92rem; padding-top: 0.55rem; max-width: 46rem; }
pre { background: var(--code); border: 1px solid var(--rule); border-radius: 8px; padding: 0.9rem 1.1rem;
  margin: 0 0 1rem; overflow-x: auto;
  font: 0.9rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
footer { color: var(--soft); font-size: 0.88rem; padding-top: 0.5rem; padding-bottom: 2.5rem; }
@media print { section, .notice, .tile { break-inside: avoid; } body { background: #ffffff; } }
"""
