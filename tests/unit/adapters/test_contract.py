"""A lease only ever grows, and tells who watches."""

import asyncio

from adapters.contract import Lease


def test_an_older_word_renews_nothing() -> None:
    lease = Lease(until=10.0)
    told: list[float] = []
    unwatch = lease.watch(told.append)
    lease.renew(9.0)
    lease.renew(10.0)
    assert (lease.until, told) == (10.0, [])
    lease.renew(12.0)
    assert (lease.until, told) == (12.0, [12.0])
    unwatch()
    unwatch()
    lease.renew(13.0)
    assert (lease.until, told) == (13.0, [12.0])


def test_it_expires_at_its_end_and_a_renewal_moves_that() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        lease = Lease(until=loop.time() + 0.05)
        waiting = asyncio.create_task(lease.expired())
        lease.renew(loop.time() + 0.2)
        end = lease.until
        await waiting
        assert loop.time() >= end

    asyncio.run(play())
