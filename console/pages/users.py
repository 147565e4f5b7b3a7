"""Users: who may log in and with which roles."""

import asyncio

import msgspec
from quart import Blueprint, request

from console.context import ask, words
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import NotFound, VdrError

blueprint = Blueprint("users", __name__)


@blueprint.get("/users")
@signed_in
async def listing() -> Answer:
    """All users, and what each role may do."""
    page, roles = await asyncio.gather(
        ask(api.UserList(cursor=request.args.get("cursor")), api.UserPage),
        ask(api.RoleList(), api.RoleListReply),
    )
    return await render(
        "users.html", "user", users=page.items, roles=roles.items, next_cursor=page.next_cursor
    )


async def _form_page(
    account: api.UserInfo | None, given: object, *, error: str = "", status: int = 200
) -> Answer:
    roles = await ask(api.RoleList(), api.RoleListReply)
    return await render(
        "user_form.html", "user", status, account=account, roles=roles.items, given=given, error=error
    )


async def _find(user_id: str) -> api.UserInfo:
    cursor = None
    while True:
        page = await ask(api.UserList(cursor=cursor, limit=api.PAGE_LIMIT_MAX), api.UserPage)
        for user in page.items:
            if user.id == user_id:
                return user
        cursor = page.next_cursor
        if cursor is None:
            raise NotFound(what="user", name=user_id)


@blueprint.get("/users/new")
@signed_in
async def begin() -> Answer:
    """What a new user needs."""
    return await _form_page(None, {"roles": []})


@blueprint.post("/users/new")
@signed_in
async def create() -> Answer:
    """Makes a user."""
    sent = await form()
    given = {**sent, "roles": sent.getlist("role")}
    try:
        made = await ask(
            msgspec.convert(
                {
                    "name": sent.get("name", "").strip(),
                    "display_name": sent.get("display_name", "").strip() or None,
                    "password": sent.get("password", ""),
                    "roles": given["roles"],
                },
                api.UserCreate,
            ),
            api.UserInfo,
        )
    except VdrError as error:
        return await _form_page(None, given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        return await _form_page(None, given, error=words()("form.invalid", reason=str(error)), status=422)
    return go(f"/users#user-{made.id}", "user_made")


@blueprint.get("/users/<user_id>")
@signed_in
async def edit(user_id: str) -> Answer:
    """What may be changed of a user."""
    account = await _find(user_id)
    return await _form_page(account, {"display_name": account.display_name, "roles": account.roles})


@blueprint.post("/users/<user_id>")
@signed_in
async def change(user_id: str) -> Answer:
    """Changes a user."""
    sent = await form()
    account = await _find(user_id)
    given = {**sent, "roles": sent.getlist("role")}
    changes: dict[str, object] = {
        "id": user_id,
        "display_name": sent.get("display_name", "").strip() or account.name,
        "roles": given["roles"],
        "is_enabled": "is_enabled" in sent,
    }
    if sent.get("password"):
        changes["password"] = sent["password"]
    try:
        await ask(msgspec.convert(changes, api.UserEdit), api.UserInfo)
    except VdrError as error:
        return await _form_page(account, given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        return await _form_page(account, given, error=words()("form.invalid", reason=str(error)), status=422)
    return go("/users", "user_changed")


@blueprint.post("/users/<user_id>/delete")
@signed_in
async def delete(user_id: str) -> Answer:
    """Deletes a user, if the name was typed."""
    typed = (await form()).get("typed", "").strip()
    account = await _find(user_id)
    given = {"display_name": account.display_name, "roles": account.roles}
    if typed != account.name:
        return await _form_page(
            account, given, error=words()("form.typed_differs", name=account.name), status=409
        )
    try:
        await ask(api.UserDelete(id=user_id), api.Done)
    except VdrError as error:
        return await _form_page(account, given, error=sentence(error), status=status_of(error))
    return go("/users", "user_deleted")
