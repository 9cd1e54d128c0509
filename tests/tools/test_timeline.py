"""A drawing of a trace has each span and each event."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.otel.recording import Recording
from tests.tools.timeline import drawing


def test_spans_lie_below_their_parents() -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("test")
    with tracer.start_as_current_span("run <1>"):
        with tracer.start_as_current_span("first"), tracer.start_as_current_span("inner") as span:
            span.add_event("penstock.first_token")
        tracer.start_span("last").end()
    picture = ET.fromstring(drawing(recording.spans))
    svg = "{http://www.w3.org/2000/svg}"
    labels = [each for each in picture.iter(f"{svg}text") if "class" not in each.attrib]
    assert [(each.text, each.get("x")) for each in labels] == [
        ("run <1>", "8"),
        ("first", "26"),
        ("inner", "44"),
        ("last", "26"),
    ]
    bars = list(picture.iter(f"{svg}rect"))
    assert len(bars) == 4
    (mark,) = picture.iter(f"{svg}circle")
    assert mark[0].text == "first token"
    start, width = float(bars[2].get("x", "0")), float(bars[2].get("width", "0"))
    assert start <= float(mark.get("cx", "0")) <= start + max(width, 2)
