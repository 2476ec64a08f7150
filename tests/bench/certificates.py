"""What a certificate costs a gateway: `python -m tests.bench.certificates` prints one line of JSON.

* verify_ms: a raise with eight votes is judged whole, with a chain of so many memberships from the one that the index
  names; median and 99th percentile of `--times`. `largest` is what the API takes at
  most: 32 memberships with 16 votes.
* stall_ms: how long the event loop did not come to a timer's turn while a certificate was judged in a thread, as
  gateways do, and `stall_ms_inline` the same without one.

Figures are of this machine, and printed, never asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from statistics import median

from reembed.core.model import Arm, Routing
from reembed.core.quorum.certificates import Certificate, Certified
from reembed.core.quorum.raising import Trust, uncertified
from reembed.signing import verify
from tests.panels import NEW, NOON, OLD, Agents, agents, raising

SERVING = Arm(OLD.pool, OLD.collection, OLD.fingerprint)
CANDIDATE = Arm(NEW.pool, NEW.collection, NEW.fingerprint)
Judge = Callable[[], None]


def chained(length: int, count: int = 8, faulty: int = 2) -> tuple[Agents, tuple[Certified, ...]]:
    """Return the members of now and the chain that led to them; each time one key is another, and all vote."""
    now = agents(count, faulty)
    chain = [Certified(now.membership)]
    for version in range(2, length + 1):
        other = agents(count, faulty, generation=version)
        name = now.names[version % count]
        keys = now.keys | {name: other.keys[name]}
        members = tuple(replace(one, key=keys[one.name].public) for one in now.membership.members)
        after = Agents(replace(now.membership, version=version, members=members), keys)
        chain.append(now.followed_by(after, count)[1])
        now = after
    return now, tuple(chain)


def judge(length: int, count: int = 8, faulty: int = 2) -> Judge:
    """Return the judging of a raise by a certificate of so many memberships and members."""
    panel, chain = chained(length, count, faulty)
    proposal = raising(10, 25)
    certificate = Certificate(proposal, panel.votes(proposal, count), chain)
    held = Routing(proposal.epoch - 1, SERVING, CANDIDATE, 10)
    told = Routing(proposal.epoch, SERVING, CANDIDATE, 25, certificate=certificate)
    trust = Trust(proposal.subject.uid, chain[0].membership.digest)

    def run() -> None:
        refusal = uncertified(held, told, trust, NOON, verify)
        if refusal is not None:
            raise RuntimeError(refusal.message)

    return run


def timed(work: Judge, times: int) -> dict[str, float]:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return _rounded(seconds)


async def stalled(work: Callable[[], Awaitable[None]], times: int) -> dict[str, float]:
    """Return how late a timer of half a millisecond comes at worst while each piece of work is done."""
    worst = []
    for _ in range(times):
        task, late = asyncio.ensure_future(work()), 0.0
        while not task.done():
            began = time.perf_counter()
            await asyncio.sleep(0.0005)
            late = max(late, time.perf_counter() - began - 0.0005)
        worst.append(late)
    return _rounded(worst)


def _rounded(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {"median": round(median(ordered) * 1e3, 2), "p99": round(high * 1e3, 2)}


async def measure(times: int) -> dict[str, object]:
    judges = {"1": judge(1), "5": judge(5), "largest": judge(32, 16, 5)}
    found: dict[str, object] = {"verify_ms": {name: timed(work, times) for name, work in judges.items()}}

    async def inline(work: Judge) -> None:
        work()

    apart, here = {}, {}
    for name, work in judges.items():
        apart[name] = await stalled(lambda work=work: asyncio.to_thread(work), times)  # type: ignore[misc]
        here[name] = await stalled(lambda work=work: inline(work), times)  # type: ignore[misc]
    return found | {"stall_ms": apart, "stall_ms_inline": here}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    found = asyncio.run(measure(parser.parse_args().times))
    print(json.dumps(found))  # noqa: T201 - this is what it is run for


if __name__ == "__main__":
    main()
