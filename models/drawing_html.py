"""A network as a page by itself: a drawing to move and zoom, with nodes to search for and to look at."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape

from .drawing_facts import Facts
from .drawing_svg import STYLE, drawing_of

__all__ = ["html_of"]

PAGE_STYLE = """
* { box-sizing: border-box }
html, body { margin: 0; height: 100%; overflow: hidden; font: 14px/1.45 -apple-system, "Segoe UI", "DejaVu Sans",
  Helvetica, Arial, sans-serif; color: #24292f; background: #fff }
header { position: fixed; top: 0; left: 0; right: 0; padding: 10px 16px; background: #fffffff0;
  border-bottom: 1px solid #d8dee4; display: flex; gap: 16px; align-items: baseline; flex-wrap: wrap; z-index: 1 }
h1 { font-size: 17px; margin: 0 }
header .totals { color: #57606a; font-size: 12px; flex: 1 }
input, button { font: inherit; padding: 3px 9px; border: 1px solid #d0d7de; border-radius: 6px; background: #fff }
button { cursor: pointer }
#picture { position: fixed; inset: 0; width: 100%; height: 100%; cursor: grab; outline: none }
#picture.moving { cursor: grabbing }
aside { position: fixed; right: 16px; top: 62px; width: 300px; max-height: calc(100% - 80px); overflow: auto;
  background: #fff; border: 1px solid #d8dee4; border-radius: 8px; padding: 12px 14px; box-shadow: 0 4px 16px #0002 }
aside[hidden] { display: none }
aside h2 { font-size: 15px; margin: 0 0 8px }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 12px; margin: 0 }
dt { color: #57606a } dd { margin: 0; overflow-wrap: anywhere }
aside a { color: #0969da; cursor: pointer }
.node { cursor: pointer }
.faded { opacity: 0.22 }
.chosen .box { stroke-width: 3px }
"""

SCRIPT = """
const facts = JSON.parse(document.getElementById('facts').textContent);
const picture = document.getElementById('picture'), panel = document.querySelector('aside');
const search = document.getElementById('search');
const nodes = new Map(facts.nodes.map(node => [node.name, node]));
const children = new Map(facts.nodes.map(node => [node.name, []]));
for (const node of facts.nodes) for (const parent of node.parents) children.get(parent).push(node.name);
let view, start;

function show() { picture.setAttribute('viewBox', [view.x, view.y, view.w, view.h].join(' ')); }
function fit() {
  const {clientWidth: w, clientHeight: h} = picture, top = 70;
  const scale = Math.max(facts.width / w, facts.height / (h - top));
  view = {w: w * scale, h: h * scale};
  view.x = (facts.width - view.w) / 2; view.y = -top * scale;
  show();
}
function readable() {
  const {clientWidth: w, clientHeight: h} = picture;
  view = {w, h, x: 0, y: -20};
  show();
  const box = document.querySelector('.node').getBoundingClientRect();
  view.x += box.x + box.width / 2 - w / 3;
  show();
}
function zoom(factor, at) {
  const box = picture.getBoundingClientRect(), point = at || {x: box.width / 2, y: box.height / 2};
  const w = Math.min(Math.max(view.w * factor, 150), 20 * facts.width + 2000), h = w * view.h / view.w;
  view = {x: view.x + (view.w - w) * point.x / box.width, y: view.y + (view.h - h) * point.y / box.height, w, h};
  show();
}
function reach(name, next) {
  const found = new Set(), left = [name];
  while (left.length)
    for (const other of next(left.pop()))
      if (!found.has(other)) { found.add(other); left.push(other); }
  return found;
}
function choose(name, move) {
  const node = nodes.get(name);
  panel.hidden = !node;
  const above = node ? reach(name, n => nodes.get(n).parents) : [];
  const below = node ? reach(name, n => children.get(n)) : [];
  const near = node ? new Set([name, ...above, ...below]) : null;
  for (const element of document.querySelectorAll('.node')) {
    element.classList.toggle('faded', !!near && !near.has(element.dataset.name));
    element.classList.toggle('chosen', element.dataset.name === name);
  }
  for (const edge of document.querySelectorAll('.edge, .back'))
    edge.classList.toggle('faded', !!near && !(near.has(edge.dataset.from) && near.has(edge.dataset.to)));
  if (!node) return;
  panel.replaceChildren();
  const title = document.createElement('h2'), list = document.createElement('dl');
  title.textContent = node.kind + ' ' + node.name;
  for (const [term, value] of node.rows) {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = term;
    if (Array.isArray(value)) value.forEach((other, i) => {
      const link = document.createElement('a');
      link.textContent = other; link.onclick = () => choose(other, true);
      dd.append(i ? ', ' : '', link);
    }); else dd.textContent = value;
    list.append(dt, dd);
  }
  panel.append(title, list);
  if (move) {
    const box = document.querySelector(`.node[data-name="${CSS.escape(name)}"]`).getBoundingClientRect();
    const scale = view.w / picture.clientWidth;
    view.x += (box.x + box.width / 2 - picture.clientWidth / 2) * scale;
    view.y += (box.y + box.height / 2 - picture.clientHeight / 2) * scale;
    show();
  }
}
picture.addEventListener('wheel', event => {
  event.preventDefault();
  zoom(Math.exp(event.deltaY * 0.0015), {x: event.offsetX, y: event.offsetY});
}, {passive: false});
picture.addEventListener('pointerdown', event => { start = {x: event.clientX, y: event.clientY, view: {...view}}; });
window.addEventListener('pointermove', event => {
  if (!start || !event.buttons) { start = null; return; }
  const scale = view.w / picture.clientWidth, dx = event.clientX - start.x, dy = event.clientY - start.y;
  if (Math.hypot(dx, dy) < 4 && !start.moved) return;
  start.moved = true; picture.classList.add('moving');
  view.x = start.view.x - dx * scale; view.y = start.view.y - dy * scale;
  show();
});
window.addEventListener('pointerup', () => { picture.classList.remove('moving'); });
picture.addEventListener('click', event => {
  if (start && start.moved) { start = null; return; }
  const node = event.target.closest('.node');
  choose(node && node.dataset.name, false);
});
search.addEventListener('input', () => {
  const text = search.value.trim().toLowerCase();
  const fits = text && (facts.nodes.find(node => node.name.toLowerCase() === text)
    || facts.nodes.find(node => (node.name + ' ' + node.kind).toLowerCase().includes(text)));
  choose(fits ? fits.name : null, true);
});
window.addEventListener('keydown', event => {
  const typing = document.activeElement === search;
  if (event.key === 'Escape') { search.value = ''; search.blur(); choose(null); return; }
  if (typing) return;
  const step = 0.08 * view.w, names = facts.nodes.map(node => node.name);
  const now = names.indexOf((document.querySelector('.chosen') || {dataset: {}}).dataset.name);
  const keys = {
    '/': () => search.focus(), f: fit, '1': readable, '+': () => zoom(0.8), '=': () => zoom(0.8), '-': () => zoom(1.25),
    ArrowLeft: () => { view.x -= step; show(); }, ArrowRight: () => { view.x += step; show(); },
    ArrowUp: () => { view.y -= step; show(); }, ArrowDown: () => { view.y += step; show(); },
    n: () => choose(names[(now + 1) % names.length], true),
    p: () => choose(names[(Math.max(now, 0) - 1 + names.length) % names.length], true),
  };
  if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); }
});
for (const [id, action] of [['fit', fit], ['in', () => zoom(0.8)], ['out', () => zoom(1.25)], ['real', readable]])
  document.getElementById(id).onclick = action;
window.addEventListener('resize', show);
fit();
if (view.w > 1.8 * picture.clientWidth) readable();  // too small to read
"""


def html_of(facts: Facts) -> str:
    """Return the page."""
    content, width, height = drawing_of(facts)
    data = {"width": width, "height": height, "nodes": [_rows(facts, i) for i in range(len(facts.nodes))]}
    # In a script element only what could end it matters.
    document = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(facts.name)}</title>
<style>{STYLE}{PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(facts.name)}</h1><span class="totals">{escape(" · ".join(facts.totals))}</span>
<input id="search" type="search" placeholder="find a node  ( / )" aria-label="find a node">
<span><button id="out" title="-">−</button> <button id="in" title="+">+</button>
<button id="real" title="1">1:1</button> <button id="fit" title="f">fit</button></span>
</header>
<svg id="picture" tabindex="0" xmlns="http://www.w3.org/2000/svg">
{content}
</svg>
<aside hidden></aside>
<script id="facts" type="application/json">{document}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _rows(facts: Facts, number: int) -> dict[str, object]:
    """Return a node's facts, and the rows of its table; a list in it holds names of nodes."""
    node = facts.nodes[number]
    d = asdict(node.description)
    sizes = [
        f"{tag} {'?' if n is None else n}" for tag, n in zip(node.description.tags.split(","), d["shape"], strict=False)
    ]
    rows: list[tuple[str, object]] = [
        ("role", node.role),
        ("does", d["detail"]),
        ("from", list(node.parents)),
        ("to", [other.name for other in facts.nodes if node.name in other.parents]),
        ("shape", ", ".join(sizes)),
        ("field of view", "not known" if min(d["fov"], default=0) < 0 else ", ".join(str(n) for n in d["fov"])),
        ("strides", ", ".join(f"{n:g}" for n in d["strides"])),
        ("offsets", ", ".join(str(n) for n in d["offsets"])),
        ("parameters", f"{d['params']:,}" if d["params"] else ""),
        ("multiplications", f"{d['cost']:,} ({100 * node.share:.2g} %)" if d["cost"] else ""),
    ]
    return {"name": node.name, "kind": node.kind, "parents": list(node.parents), "rows": [r for r in rows if r[1]]}
