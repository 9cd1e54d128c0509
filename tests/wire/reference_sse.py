"""A slow decoder of event streams, written down from the standard line by line.

WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream". It sees
the whole stream at once, so it has no splits to get wrong. It decodes first and splits then,
as the standard says, where penstock splits the bytes.
"""

from __future__ import annotations


def split_lines(text: str) -> list[str]:
    """The lines that have an end: CRLF, else LF, else CR. What follows the last one is no line."""
    lines: list[str] = []
    line = ""
    position = 0
    while position < len(text):
        if text[position] == "\r" and text[position + 1 : position + 2] == "\n":
            lines.append(line)
            line = ""
            position += 2
        elif text[position] in "\r\n":
            lines.append(line)
            line = ""
            position += 1
        else:
            line += text[position]
            position += 1
    return lines


def decode_events(stream: bytes) -> list[tuple[str, str]]:
    """(event type, data) of each event that is dispatched."""
    # "UTF-8 decode" replaces what is not UTF-8 and strips one BOM.
    text = stream.decode("utf-8", "replace")
    if text.startswith("\ufeff"):
        text = text[1:]
    events: list[tuple[str, str]] = []
    data_buffer = ""
    event_type_buffer = ""
    for line in split_lines(text):
        if line == "":  # "dispatch the event"
            if data_buffer == "":
                event_type_buffer = ""
                continue
            if data_buffer.endswith("\n"):
                data_buffer = data_buffer[:-1]
            events.append((event_type_buffer or "message", data_buffer))
            data_buffer = ""
            event_type_buffer = ""
        elif line.startswith(":"):
            continue
        else:
            if ":" in line:
                field, value = line.split(":", 1)
                if value.startswith(" "):
                    value = value[1:]
            else:
                field, value = line, ""
            if field == "event":
                event_type_buffer = value
            elif field == "data":
                data_buffer += value + "\n"
            # "id" and "retry" are of no use to us; "otherwise: the field is ignored".
    return events
