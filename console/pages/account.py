"""One's own account: the password."""

import msgspec
from quart import Blueprint

from console.context import ask, parts, session, words
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("account", __name__)


@blueprint.get("/account")
@signed_in
async def show() -> Answer:
    """Who one is, and a new password."""
    return await render("account.html", "account", error="")


@blueprint.post("/account")
@signed_in
async def change_password() -> Answer:
    """Changes the password."""
    given = await form()
    t = words()
    if given.get("new_password", "") != given.get("again", ""):
        return await render("account.html", "account", 422, error=t("account.differ"))
    try:
        await ask(
            msgspec.convert(
                {
                    "old_password": given.get("old_password", ""),
                    "new_password": given.get("new_password", ""),
                },
                api.PasswordChange,
            ),
            api.Done,
        )
    except VdrError as error:
        return await render("account.html", "account", status_of(error), error=sentence(error))
    except msgspec.ValidationError:
        return await render("account.html", "account", 422, error=t("account.too_short"))
    if open_session := await session():
        parts().who.pop(open_session.server_token, None)
    return go("/account", "password_changed")
