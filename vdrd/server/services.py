"""What the parts of the server share. Made once by the daemon, passed along; holds no logic."""

from dataclasses import dataclass

import trio

from vdrd.catalog.database import Catalog
from vdrd.net.ca import Authority
from vdrd.net.credentials import Credentials
from vdrd.net.enrol import EnrolDesk
from vdrd.net.listen import LinkListener
from vdrd.net.tls import TlsProfile
from vdrd.server.accounts import Doorkeeper
from vdrd.server.alarm import Alarm
from vdrd.server.clock import Clock
from vdrd.server.config import ServerConfig
from vdrd.server.director import Director
from vdrd.server.downloads import Downloads
from vdrd.server.events import Feed
from vdrd.server.messenger import Messenger
from vdrd.server.metadata_keeper import MetadataKeeper
from vdrd.server.passive import PassiveDialler
from vdrd.server.passwords import Passwords
from vdrd.server.peers import Peers
from vdrd.server.scheduler import Scheduler


@dataclass(slots=True)
class Services:
    """The server's parts."""

    config: ServerConfig
    server_id: str
    started_ms: int
    catalog: Catalog
    clock: Clock
    feed: Feed
    peers: Peers
    director: Director
    scheduler: Scheduler
    messenger: Messenger
    alarm: Alarm
    metadata: MetadataKeeper
    passwords: Passwords
    doorkeeper: Doorkeeper
    authority: Authority
    credentials: Credentials
    enrol_desk: EnrolDesk
    profile: TlsProfile
    listener: LinkListener
    passive: PassiveDialler
    downloads: Downloads
    background: trio.Nursery
    """For work nobody waits for; its tasks guard their own roots."""
