//! The page's style sheet.

/// Colours are named once for each scheme. The six of the curves keep apart for readers who do not tell red from
/// green, and each has at least three to one against the card behind it; dashes tell further curves apart.
pub(super) const STYLE: &str = r"
:root {
  --page: #f6f6f3; --card: #ffffff; --ink: #1b1d1f; --muted: #5b6066; --rule: #dcdcd6; --grid: #e8e8e3;
  --accent: #0b5c8a; --danger: #a8201a; --danger-ink: #ffffff; --warn: #fff1cf; --warn-ink: #553c00;
  --c0: #0072b2; --c1: #c4500a; --c2: #00805c; --c3: #a8447f; --c4: #8a6d00; --c5: #44484d;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --page: #131517; --card: #1c1f22; --ink: #e9eaeb; --muted: #a3a9af; --rule: #34393e; --grid: #2a2e32;
    --accent: #7cc0ee; --danger: #c9362e; --danger-ink: #ffffff; --warn: #3d3010; --warn-ink: #ffe2a0;
    --c0: #56b4e9; --c1: #f08a4b; --c2: #35c39a; --c3: #e08fc0; --c4: #e6c84a; --c5: #c2c7cc;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif;
}
main { max-width: 1200px; margin: 0 auto; padding: 28px 20px 56px; }
h1, h2, h3, p, ul, dl, figure { margin: 0; }
h1 { font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 44px 0 14px; }
h3 { font-size: 1rem; line-height: 1.35; overflow-wrap: anywhere; }
section > h3 { margin: 20px 0 10px; }
a { color: var(--accent); }
p { max-width: 72ch; }
.eyebrow { color: var(--muted); font-size: .875rem; }
.sub { color: var(--muted); font-size: .875rem; line-height: 1.4; }
.status { color: var(--muted); margin-top: 4px; }
.status.warn { display: inline-block; background: var(--warn); color: var(--warn-ink); padding: 2px 8px; border-radius: 4px; }
.note { background: var(--warn); color: var(--warn-ink); padding: 6px 12px; border-radius: 4px; margin-top: 10px; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px 44px; margin-top: 22px; }
.tile .name { color: var(--muted); font-size: .875rem; }
.tile .value { font-size: 2.1rem; line-height: 1.2; font-weight: 600; white-space: nowrap; }
.terms { margin-top: 16px; display: flex; flex-wrap: wrap; gap: 6px 20px; max-width: none; }
.term { white-space: nowrap; }
.simulated { margin-top: 14px; max-width: none; }
.badge { display: inline-block; border: 2px solid currentColor; border-radius: 4px; padding: 0 7px; font-size: .875rem; letter-spacing: .04em; }
.banner { margin-top: 18px; padding: 14px 18px; border-radius: 6px; }
.banner strong { display: block; line-height: 1.2; }
.banner.danger { background: var(--danger); color: var(--danger-ink); }
.banner.danger strong { font-size: 2.4rem; letter-spacing: .02em; }
.banner.warn { background: var(--warn); color: var(--warn-ink); }
.banner.warn strong { font-size: 1.15rem; }
.banner p { overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 16px; }
section > p + .cards, section > p + .scroll { margin-top: 14px; }
.cards.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
.card.row { grid-column: 1 / -1; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 14px 16px; min-width: 0; }
.card ul:not(.legend) { padding-left: 1.2em; margin-top: 6px; }
.card li + li { margin-top: 4px; }
.card > p { margin-top: 6px; }
figure { display: flex; flex-direction: column; }
figure > svg { display: block; width: 100%; height: auto; margin-top: auto; padding-top: 8px; }
.legend { list-style: none; padding: 0; margin-top: 6px; display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: .875rem; }
.legend li { margin: 0 !important; overflow-wrap: anywhere; }
svg.swatch { display: inline-block; width: 26px; height: 10px; margin: 0 7px 0 0; vertical-align: baseline; }
.key { color: var(--muted); font-size: .875rem; margin-top: 6px; }
svg.ramp { display: inline-block; width: 100px; height: 10px; margin: 0 4px; border: 1px solid var(--rule); }
svg text { font-size: 12px; fill: var(--muted); font-variant-numeric: tabular-nums; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--muted); }
.reference { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 1 4; stroke-linecap: round; }
.line { fill: none; stroke: var(--curve); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.dot { fill: var(--curve); }
.c0 { --curve: var(--c0); } .c1 { --curve: var(--c1); } .c2 { --curve: var(--c2); }
.c3 { --curve: var(--c3); } .c4 { --curve: var(--c4); } .c5 { --curve: var(--c5); }
.d1 { stroke-dasharray: 7 5; } .d2 { stroke-dasharray: 2 5; } .d3 { stroke-dasharray: 10 4 2 4; }
.zone rect { fill: transparent; }
.zone .dot { visibility: hidden; stroke: var(--card); stroke-width: 1; r: 4px; }
.zone:hover rect { fill: var(--ink); fill-opacity: .06; }
.zone:hover .dot { visibility: visible; }
.bar rect, .cell rect, .ramp rect { fill: var(--c0); }
.bar:hover rect { fill: var(--c1); }
.cell:hover rect { stroke: var(--ink); stroke-width: 1.5; }
.ground { fill: none; stroke: var(--rule); }
dl { display: grid; grid-template-columns: minmax(7.5em, max-content) 1fr; gap: 5px 16px; margin-top: 8px; font-size: .9375rem; line-height: 1.4; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
code { font: .8125rem/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere; }
dl + p { margin-top: 10px; }
.vouched { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 10px 20px; }
details { margin-top: 14px; }
details .cards { margin: 12px 0 20px; }
summary { cursor: pointer; color: var(--accent); }
.scroll { overflow-x: auto; margin-top: 16px; }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; background: var(--card); }
caption { text-align: left; font-weight: 600; padding: 4px 0; background: var(--page); }
th, td { padding: 5px 10px; border: 1px solid var(--rule); text-align: right; white-space: nowrap; vertical-align: baseline; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; white-space: normal; }
.compare { width: 100%; min-width: 860px; }
.compare td, .compare th { text-align: left; }
.compare td.long, .compare th { white-space: normal; }
.card table { margin-top: 10px; }
.card table th, .card table td { white-space: normal; }
.scroll + .sub { margin-top: 6px; }
.compare tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 9em; max-width: 20em; }
.diagnostics { margin-top: 48px; padding-top: 1px; border-top: 3px double var(--rule); }
.diagnostics h2 { margin-top: 22px; }
.diagnostics .cards { margin-top: 14px; }
@media (max-width: 600px) {
  main { padding: 18px 14px 40px; }
  h1 { font-size: 1.6rem; }
  .tiles { gap: 12px 28px; }
  .tile .value { font-size: 1.7rem; }
  .banner.danger strong { font-size: 2rem; }
  .card { padding: 12px; }
  dl { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 5px 12px; }
  .vouched { grid-template-columns: minmax(0, 1fr); gap: 2px; }
  .vouched dt { margin-bottom: 10px; }
}
@media print {
  :root { --page: #ffffff; }
  body { background: none; font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .cards { grid-template-columns: 1fr 1fr; }
  .card, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  .compare { min-width: 0; }
  .compare tbody th { min-width: 0; }
  th, td { padding: 3px 5px; }
  details, .folded { display: none; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
";
