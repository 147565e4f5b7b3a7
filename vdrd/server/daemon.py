"""The server as a whole: puts the parts together, runs them, stops them in order."""

import logging
from collections.abc import Awaitable, Callable

import trio

from schemas.link import Hello
from vdrd import __version__
from vdrd.catalog.times import from_ms
from vdrd.net import ca
from vdrd.net.address import SERVER_PORT, Address
from vdrd.net.enrol import Admission, EnrolDesk
from vdrd.net.identity import PeerIdentity, Role
from vdrd.net.link import Handler, Link
from vdrd.net.listen import LinkListener
from vdrd.net.tls13 import Tls13Profile
from vdrd.net.token import TokenBook
from vdrd.server.accounts import Doorkeeper
from vdrd.server.alarm import Alarm
from vdrd.server.clock import Clock, wall_clock_ms
from vdrd.server.config import ServerConfig
from vdrd.server.desk import Desk
from vdrd.server.director import Director
from vdrd.server.downloads import Downloads
from vdrd.server.events import Feed
from vdrd.server.machines import AgentHandler
from vdrd.server.messenger import Messenger
from vdrd.server.metadata import places
from vdrd.server.metadata_keeper import MetadataKeeper
from vdrd.server.passive import PassiveDialler
from vdrd.server.passwords import Passwords
from vdrd.server.peers import Peers
from vdrd.server.reception import Reception, check_facts, register
from vdrd.server.retention import keep_retaining, retain_after
from vdrd.server.scheduler import Scheduler
from vdrd.server.services import Services
from vdrd.server.setup import Foundation, issue_identity
from vdrd.server.vault import Vault

log = logging.getLogger(__name__)
SOFTWARE = f"vdr-server {__version__}"
_RENEWAL_LOOK_SECONDS = 3600.0


async def _keep_certificate(services: Services) -> None:
    """Renew the server's own certificate before it ends."""
    while True:
        certificate = await trio.to_thread.run_sync(services.credentials.certificate)
        now = from_ms(services.clock())
        if ca.is_renewal_due(certificate.not_valid_before_utc, certificate.not_valid_after_utc, now):

            def renew() -> None:
                issue_identity(
                    services.authority,
                    services.catalog,
                    services.credentials,
                    role=Role.SERVER,
                    ident=services.server_id,
                    now_ms=services.clock(),
                )

            await trio.to_thread.run_sync(renew)
            services.profile.reload()
            log.info("own certificate renewed")
        await trio.sleep(_RENEWAL_LOOK_SECONDS)


async def serve(
    foundation: Foundation,
    config: ServerConfig,
    *,
    clock: Clock = wall_clock_ms,
    on_ready: Callable[[tuple[Address, ...]], Awaitable[None]] | None = None,
) -> None:
    """Run the server until cancelled. Closes the catalog. `on_ready` gets the addresses it listens on."""
    catalog = foundation.catalog
    try:
        async with trio.open_nursery() as nursery:
            services = await _assemble(foundation, config, clock, nursery)
            addresses = [Address.parse(text, SERVER_PORT) for text in config.listen]
            await nursery.start(services.director.run)
            nursery.start_soon(services.scheduler.run)
            nursery.start_soon(services.passive.run)
            nursery.start_soon(keep_retaining, services)
            nursery.start_soon(services.alarm.run)
            nursery.start_soon(services.metadata.run)
            nursery.start_soon(_keep_certificate, services)
            real = await nursery.start(services.listener.serve, addresses)
            log.info("server started id=%s version=%s", services.server_id, __version__)
            if on_ready is not None:
                await on_ready(real)
    finally:
        catalog.close()
        log.info("server stopped")


async def _assemble(
    foundation: Foundation, config: ServerConfig, clock: Clock, nursery: trio.Nursery
) -> Services:
    catalog = foundation.catalog
    peers, feed = Peers(), Feed(config.events_kept, clock)
    director = Director(catalog, peers, feed, config, clock)
    passwords = await trio.to_thread.run_sync(Passwords.make)
    vault = await trio.to_thread.run_sync(Vault.at, config.state_directory / "vault.key")
    messenger = Messenger(catalog, vault, clock)
    profile = Tls13Profile(foundation.credentials)
    announced = config.announce or config.listen[0]
    book = TokenBook(config.state_directory / "tokens.json")
    services: Services

    async def enrolled(admission: Admission) -> None:
        await register(services, admission)

    servers = (Address.parse(announced, SERVER_PORT),)
    enrol_desk = EnrolDesk(foundation.authority, book, servers, enrolled, check_facts)
    doorkeeper = Doorkeeper(catalog, passwords, config, clock)

    class Entrance:
        """Knows the reception only when it is called: listener and services need each other."""

        async def admit(self, peer: PeerIdentity, hello: Hello) -> Handler:
            return await reception.admit(peer, hello)

        async def session(self, link: Link) -> None:
            await reception.session(link)

    entrance = Entrance()
    listener = LinkListener(profile, control=entrance, enrol=enrol_desk, software=SOFTWARE)
    passive = PassiveDialler(
        catalog, profile, lambda host_id: AgentHandler(services, host_id), entrance.session, SOFTWARE
    )
    services = Services(
        config=config,
        server_id=foundation.server_id,
        started_ms=clock(),
        catalog=catalog,
        clock=clock,
        feed=feed,
        peers=peers,
        director=director,
        scheduler=Scheduler(catalog, director, clock),
        messenger=messenger,
        alarm=Alarm(
            catalog, peers, feed, messenger, host_offline_hours=config.host_offline_hours, clock=clock
        ),
        metadata=MetadataKeeper(
            catalog,
            peers,
            vault,
            clock,
            server_id=foundation.server_id,
            server_state=config.state_directory,
            beside=places(config.metadata_beside),
        ),
        passwords=passwords,
        doorkeeper=doorkeeper,
        authority=foundation.authority,
        credentials=foundation.credentials,
        enrol_desk=enrol_desk,
        profile=profile,
        listener=listener,
        passive=passive,
        downloads=Downloads(catalog, clock),
        background=nursery,
    )
    reception = Reception(services, Desk(services, doorkeeper))
    director.on_success = lambda run: nursery.start_soon(retain_after, services, run)
    return services
