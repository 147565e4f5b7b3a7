"""Icons, drawn here: strokes on a 24 by 24 grid. Inline in the page, so that they cost no request."""

from typing import Final

from markupsafe import Markup

_PATHS: Final = {
    "overview": "M4 13a8 8 0 1 1 16 0M12 13l4-4M4 17h16",
    "host": "M4 5h16v10H4zM9 19h6M12 15v4",
    "job": "M5 4h14v16H5zM9 9h6M9 13h6M9 17h3",
    "point": "M12 8v4l3 2M4.5 9A8 8 0 1 1 4 12M4 5v4h4",
    "recovery": "M13 3 5 14h6l-1 7 8-11h-6z",
    "run": "M8 5v14l11-7z",
    "alert": "M6 16V11a6 6 0 1 1 12 0v5l2 2H4zM10 20.5h4",
    "channel": "M4 11v3l10 4V6L4 10zM17 9a5 5 0 0 1 0 6M7 15v4h3v-3",
    "metadata": "M5 4h11l3 3v13H5zM8 4v5h7V4M8 20v-7h8v7",
    "log": "M5 4h10l4 4v12H5zM14 4v5h5M8 13h8M8 16h5",
    "node": "M4 5h16v6H4zM4 13h16v6H4zM7.5 8h.01M7.5 16h.01",
    "storage": "M4 7c0-4 16-4 16 0s-16 4-16 0v10c0 4 16 4 16 0V7M4 12c0 4 16 4 16 0",
    "user": "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20c1-5 14-5 15 0",
    "search": "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4.5 4.5",
    "plus": "M12 5v14M5 12h14",
    "more": "M5 12h.01M12 12h.01M19 12h.01",
    "language": (
        "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM3.5 9.5h17M3.5 14.5h17M12 3c-5 5-5 13 0 18 5-5 5-13 0-18"
    ),
    "chevron": "m7 10 5 5 5-5",
    "good": "m5 12.5 4.5 4.5L19 7.5",
    "warn": "M12 4 3 19.5h18zM12 10v4M12 16.8h.01",
    "bad": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9 9l6 6M15 9l-6 6",
    "info": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8h.01",
    "busy": "M20 12a8 8 0 1 1-4-6.9",
    "waiting": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7.5V12l3 2",
    "stopped": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8 12h8",
    "shield": "M12 3 5 6v6c0 4 3 7.5 7 9 4-1.5 7-5 7-9V6z",
    "folder": "M3.5 6h6l2 2.5h9V19h-17z",
    "file": "M6 3.5h8l4 4V20.5H6zM13.5 3.5V8H18",
    "link": (
        "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.7-5.7l-1.3 1.3"
        "M14 10a4 4 0 0 0-6-.5l-3 3A4 4 0 0 0 10.7 18l1.3-1.3"
    ),
    "disk": "M3.5 6h17v12h-17zM16.5 15h.01M6 15h6",
    "restore": "M12 4v11M7.5 10.5 12 15l4.5-4.5M4.5 19.5h15",
    "verify": "M12 3 5 6v6c0 4 3 7.5 7 9 4-1.5 7-5 7-9V6zM8.5 12l2.5 2.5 4.5-5",
    "trash": "M5 7h14M9.5 7V4.5h5V7M7 7l1 13h8l1-13",
    "edit": "m5 19 1-4L16 5l3 3L9 18z",
    "out": "M10 4.5H5v15h5M14 8l4 4-4 4M18 12H9",
    "up": "M12 19V6M6.5 11.5 12 6l5.5 5.5",
    "next": "m9 6 6 6-6 6",
    "calendar": "M4.5 6h15v14h-15zM4.5 10.5h15M8.5 4v4M15.5 4v4",
    "api": "m8 8-4 4 4 4M16 8l4 4-4 4M13.5 6l-3 12",
}


def icon(name: str, extra: str = "") -> Markup:
    """An icon; purely decorative, the word stands beside it."""
    return Markup('<svg class="icon {}" viewBox="0 0 24 24" aria-hidden="true"><path d="{}"/></svg>').format(
        extra, _PATHS[name]
    )


MARK: Final = Markup(
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" fill="#0b6670"/>'
    '<path d="M7.5 9.5 16 24l8.5-14.5" fill="none" stroke="#fff" stroke-width="3.2" stroke-linecap="round"'
    ' stroke-linejoin="round"/><circle cx="16" cy="10" r="2.6" fill="#7fe0d3"/></svg>'
)
