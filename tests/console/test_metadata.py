"""What people do on the page of the system's backup."""

import pytest

from schemas import api
from tests.console.conftest import World
from tests.console.fake_metadata import NAME

PLAN = {"at": "04:15", "zone": "Asia/Shanghai", "keep": "3", "storage_id": "", "passphrase": ""}


def test_plan_is_changed_and_an_empty_passphrase_stays(inside: World) -> None:
    storage = next(iter(inside.server.storages))
    assert inside.post("/metadata", PLAN | {"storage_id": storage}).status_code == 303
    name, request = inside.server.calls[-1]
    assert (name, request) == (
        "metadata.edit_plan",
        api.MetadataPlanEdit(at="04:15", zone="Asia/Shanghai", keep=3, storage_id=storage),
    )


@pytest.mark.parametrize("wrong", [{"passphrase": "short"}, {"keep": "0"}, {"at": "25:00"}], ids=str)
def test_plan_that_cannot_be_is_told(inside: World, wrong: dict[str, str]) -> None:
    before = inside.server.plan
    assert inside.post("/metadata", PLAN | wrong).status_code == 422
    assert inside.server.plan == before


def test_backup_is_downloaded_whole(inside: World) -> None:
    response = inside.get(f"/metadata/files/{NAME}")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{NAME}"'
    assert inside.run(response.get_data(as_text=False)) == inside.server.metadata[NAME]


def test_backup_that_is_not_there_is_told(inside: World) -> None:
    assert inside.get("/metadata/files/other").status_code == 404


def test_backup_is_made_by_hand(inside: World) -> None:
    assert inside.post("/metadata/save", {}).status_code == 303
    assert len(inside.server.metadata) == 2


def test_page_is_for_those_with_the_right(world: World) -> None:
    world.log_in("operator")
    assert world.get("/metadata").status_code == 403
    assert world.get(f"/metadata/files/{NAME}").status_code == 403
