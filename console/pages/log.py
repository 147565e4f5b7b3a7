"""The audit log: who did what, and whether it was allowed."""

from quart import Blueprint, request

from console.context import ask
from console.pages.frame import Answer, render, signed_in
from schemas import api

blueprint = Blueprint("log", __name__)

STATES = ("ok", "refused", "failed")
TOPICS = ("session", "host", "storage", "job", "run", "point", "restore", "export", "user")
"""Beginnings of action names."""


@blueprint.get("/log")
@signed_in
async def listing() -> Answer:
    """All entries, newest first."""
    state = request.args.get("state")
    topic = request.args.get("topic")
    page = await ask(
        api.AuditList(
            cursor=request.args.get("cursor"),
            user_name=request.args.get("user") or None,
            action=f"{topic}." if topic in TOPICS else None,
            state=state if state in STATES else None,
        ),
        api.AuditPage,
    )
    return await render(
        "log.html",
        "log",
        entries=page.items,
        next_cursor=page.next_cursor,
        states=STATES,
        state=state,
        topics=TOPICS,
        topic=topic,
        is_filtered=bool(state or topic or request.args.get("user")),
    )
