from pathlib import Path

import pytest

from vdrd.catalog.database import CatalogLocked
from vdrd.net.credentials import Credentials
from vdrd.net.identity import Role
from vdrd.server.clock import wall_clock_ms
from vdrd.server.setup import PASSWORD_FILE, admit_console, admit_node, lay

DAY_MS = 86_400_000


def test_lay_makes_everything_once_and_finds_it_again(tmp_path: Path, fast_hashing: None) -> None:
    first = lay(tmp_path)
    assert first.new_password is not None
    assert (tmp_path / PASSWORD_FILE).read_text().strip() == first.new_password.reveal()
    assert (tmp_path / PASSWORD_FILE).stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 in {0o700, 0o755}
    with pytest.raises(CatalogLocked):
        lay(tmp_path)
    first.catalog.close()
    second = lay(tmp_path)
    assert second.new_password is None
    assert second.server_id == first.server_id
    assert second.authority.fingerprint == first.authority.fingerprint
    second.catalog.close()


def test_parts_on_this_machine_keep_their_identity_and_renew_it_in_time(
    tmp_path: Path, fast_hashing: None
) -> None:
    foundation = lay(tmp_path / "server")
    now_ms = wall_clock_ms()
    node_id = admit_node(foundation, tmp_path / "node", "n", now_ms)
    assert admit_node(foundation, tmp_path / "node", "n", now_ms) == node_id
    assert Credentials(tmp_path / "node").identity().role is Role.NODE

    admit_console(foundation, tmp_path / "console", "box", now_ms)
    credentials = Credentials(tmp_path / "console")
    first, web = credentials.identity(), (tmp_path / "console" / "web.pem").read_bytes()
    admit_console(foundation, tmp_path / "console", "box", now_ms + 200 * DAY_MS)
    assert credentials.identity().serial == first.serial
    admit_console(foundation, tmp_path / "console", "box", now_ms + 300 * DAY_MS)
    renewed = credentials.identity()
    assert (renewed.ident, renewed.serial == first.serial) == (first.ident, False)
    assert (tmp_path / "console" / "web.pem").read_bytes() != web
    foundation.catalog.close()
