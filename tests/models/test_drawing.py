"""Drawings of networks, in every form."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from elektronn_tui.errors import ModelError
from elektronn_tui.models import Conv, Input, Model, Softmax, draw_graph
from elektronn_tui.models.drawing_facts import facts_of
from elektronn_tui.models.drawing_text import text_of
from elektronn_tui.models.scan import ScanN
from elektronn_tui.training.examples import examples
from elektronn_tui.training.opening import open_model

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "a<b>&\"c'\\"


def nasty() -> Model:
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    out = Softmax(Conv(raw, 2, (3, 3), activation_func="lin", name=NASTY), name="probs")
    return Model(raw, prediction_node=out, name="x</script><b>&")


@pytest.mark.parametrize("name", sorted(examples()))
def test_every_network_of_the_zoo_is_drawn_in_every_form(name: str, tmp_path: Path) -> None:
    model = open_model(name)
    root = ElementTree.parse(draw_graph(model, tmp_path / "net.svg")).getroot()
    drawn = [element.get("data-name") for element in root.iter(f"{SVG}g") if element.get("data-name")]
    assert sorted(drawn) == sorted(model.nodes)
    edges = [(e.get("data-from"), e.get("data-to")) for e in root.iter(f"{SVG}path") if e.get("class") == "edge"]
    assert sorted(edges) == sorted({(p.name, n.name) for n in model.nodes.values() for p in n.parents})
    dot = draw_graph(model, tmp_path / "net.dot").read_text()
    again = sum(len(node.in_memory) for node in model.nodes.values() if isinstance(node, ScanN))
    assert dot.count(" -> ") == sum(len(node.parents) for node in model.nodes.values()) + again
    text = draw_graph(model, tmp_path / "net.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert sum("●" in line for line in text.splitlines()) == len(model.nodes)
    page = draw_graph(model, tmp_path / "net.html").read_text()
    facts = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert [node["name"] for node in facts["nodes"]] == list(model.nodes)


def test_a_drawing_tells_shapes_parameters_cost_and_fields_of_view(tmp_path: Path) -> None:
    model = open_model("neuro3d_lite")
    texts = [e.text for e in ElementTree.parse(draw_graph(model, tmp_path / "net.svg")).getroot().iter(f"{SVG}text")]
    assert "neuro3d_lite" in texts
    assert any("885 132 trainable parameters" in (text or "") for text in texts)
    at = texts.index("Conv · conv2")
    assert texts[at + 1 : at + 5] == [
        "150 features, kernel 2,4,4, pool 2,1,1, relu",
        "150×4×34×34  b f z y x",
        "fov 5,23,23 · stride 2,4,4",
        "192.2 k params · 32 % of cost",
    ]
    assert "★ prediction" in texts


def test_rails_show_what_is_kept_for_later() -> None:
    lines = text_of(facts_of(open_model("membranes"))).splitlines()
    rails = {re.split(r"[●│├┤┼╰╯┴─ ]+", line)[1]: line for line in lines if "●" in line}
    assert rails["pool"].startswith("├─● pool")  # conv1 is needed again
    assert rails["merge1"].startswith("●─╯ merge1")
    assert rails["upconv1"].startswith("│ ● upconv1")


def test_what_is_fed_back_in_time_is_an_edge_of_its_own(tmp_path: Path) -> None:
    model = open_model("gru")
    root = ElementTree.parse(draw_graph(model, tmp_path / "net.svg")).getroot()
    back = [(e.get("data-from"), e.get("data-to")) for e in root.iter(f"{SVG}path") if e.get("class") == "back"]
    assert back == [("gru", "start")]
    assert "40 × replaces start" in [text.text for text in root.iter(f"{SVG}text")]
    width = float(root.get("width") or 0)
    assert all(float(text.get("x") or 0) < width for text in root.iter(f"{SVG}text"))
    assert '"gru" -> "start" [label="40 × replaces start"' in draw_graph(model, tmp_path / "net.dot").read_text()
    assert "gru ↺ start" in text_of(facts_of(model))


def test_names_of_all_kinds_are_escaped(tmp_path: Path) -> None:
    model = nasty()
    root = ElementTree.parse(draw_graph(model, tmp_path / "net.svg")).getroot()
    assert NASTY in [element.get("data-name") for element in root.iter(f"{SVG}g")]
    page = draw_graph(model, tmp_path / "net.html").read_text()
    assert page.count("</script>") == 2
    assert html.escape(model.name) in page
    dot = draw_graph(model, tmp_path / "net.dot").read_text()
    assert '"a<b>&\\"c\'\\\\" -> "probs"' in dot


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = draw_graph(open_model("unet3d"), tmp_path / "net.html").read_text()
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"(src|href)=", page)


def test_what_is_no_drawing_is_refused(tmp_path: Path) -> None:
    model = nasty()
    with pytest.raises(ModelError, match=r"ends with \.svg, \.html, \.dot, \.txt, not with '\.pdf'"):
        draw_graph(model, tmp_path / "net.pdf")
    with pytest.raises(ModelError, match="not with 'nothing'"):
        draw_graph(model, tmp_path / "net")
    with pytest.raises(ModelError, match="can't be written"):
        draw_graph(model, tmp_path / "nowhere" / "net.svg")
