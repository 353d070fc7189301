"""Which settings of a topic would lose facts or order, or stop us, and what mends each. Pure.

What only costs comfort (how long results, logs or dead letters are kept) is the owner's choice.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from events.topics import DAY_MS, RECORD_BYTES_KEY, TopicSpec, prefix_flag

INPUT_RETENTION_MS_MIN = DAY_MS
"""An input must outlive any pause of the schedulers that people would not notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFound:
    """A topic as it is on the broker. `config` has what the broker tells, defaults included."""

    name: str
    partitions: int
    replicas_min: int
    """Copies of the partition that has fewest."""
    config: Mapping[str, str]


def faults(
    spec: TopicSpec,
    found: TopicFound,
    *,
    bootstrap: str,
    replication: int = 1,
    partitions: int | None = None,
) -> Iterator[str]:
    """Yield what is dangerous in `found`: the setting, why, and the command that mends it.

    `partitions` None: any number will do.
    """
    if partitions is not None and found.partitions != partitions:
        yield (
            f"it has {found.partitions} partitions, {partitions} are needed: a pool would be in "
            "different partitions of different topics; the number is fixed at the first start, so "
            "name that number, or choose another topic prefix"
        )
    if found.replicas_min < replication:
        yield (
            f"it has {found.replicas_min} copies of a partition, {replication} are asked for: one "
            f"broker lost is facts lost; ask for --replication {found.replicas_min}, or begin with "
            "another --topic-prefix: `teo` adds no copies to topics that are there"
        )
    for key, wanted, why in _settings(spec, found):
        yield f"it has {key}={found.config[key]}: {why}; {mend(bootstrap, spec.name, key, wanted)}"


def mendable(spec: TopicSpec, found: TopicFound) -> Iterator[tuple[str, str]]:
    """Yield the settings that are dangerous, each with the value that it must have."""
    for key, wanted, _ in _settings(spec, found):
        yield key, wanted


Fault = tuple[str, str, str]
"""A setting, the value it must have, and why."""


def _settings(spec: TopicSpec, found: TopicFound) -> Iterator[Fault]:
    yield from _durability(spec, found)
    yield from _retention(spec, found)
    yield from _time(spec, found)
    yield from _size(spec, found)


def _durability(spec: TopicSpec, found: TopicFound) -> Iterator[Fault]:
    config = found.config
    if config.get("unclean.leader.election.enable", "false") != "false":
        why = "a broker that missed records may become leader, and acknowledged facts are gone"
        yield "unclean.leader.election.enable", "false", why
    wanted = spec.config["min.insync.replicas"]
    in_sync = int(config.get("min.insync.replicas", wanted))
    if in_sync < int(wanted):
        why = f"a write acknowledged by fewer than {wanted} brokers can be lost with one of them"
        yield "min.insync.replicas", wanted, why
    elif in_sync > max(found.replicas_min, int(wanted)):
        why = f"nothing can be written: a partition has only {found.replicas_min} copies"
        yield "min.insync.replicas", wanted, why


def _retention(spec: TopicSpec, found: TopicFound) -> Iterator[Fault]:
    config = found.config
    policy = config.get("cleanup.policy", spec.config["cleanup.policy"])
    if spec.role == "snapshots":
        if "compact" not in policy:
            why = "old snapshots would pile up, or the newest of a quiet pool would go"
            yield "cleanup.policy", "compact", why
        return
    if "compact" in policy:
        why = "records of the same key would be thrown away, and each of them counts"
        yield "cleanup.policy", "delete", why
    if spec.role == "public":
        return
    is_journal = spec.role == "journal"
    kept_ms = int(config.get("retention.ms", "-1"))
    if is_journal and kept_ms != -1:
        why = "the journal is all there is, and it would forget its beginning"
        yield "retention.ms", "-1", why
    elif 0 <= kept_ms < INPUT_RETENTION_MS_MIN:
        why = "what is not decided within that time would be lost"
        yield "retention.ms", spec.config["retention.ms"], why
    if config.get("retention.bytes", "-1") != "-1":
        why = "a busy day would push out " + ("facts" if is_journal else "what is not decided yet")
        yield "retention.bytes", "-1", why


def _time(spec: TopicSpec, found: TopicFound) -> Iterator[Fault]:
    if spec.role != "input":
        return  # Made by an older version: it goes on as long as clocks are within an hour.
    key = "message.timestamp.type"
    wanted = spec.config[key]
    if found.config.get(key, wanted) != wanted:
        why = "decisions would take the time from the senders' clocks instead of the broker's"
        yield key, wanted, why


def _size(spec: TopicSpec, found: TopicFound) -> Iterator[Fault]:
    wanted = spec.config.get(RECORD_BYTES_KEY)
    if wanted is None or int(found.config.get(RECORD_BYTES_KEY, wanted)) >= int(wanted):
        return
    if spec.role == "input":
        yield RECORD_BYTES_KEY, wanted, "the biggest commands and reports would be refused"
    else:
        why = "a decision or a dead letter that it refuses would stop its partition"
        yield RECORD_BYTES_KEY, wanted, why


def mend(bootstrap: str, topic: str, key: str, value: str) -> str:
    """Return what sets a setting of a topic."""
    flag = prefix_flag(topic)
    return f"`teo init --kafka {bootstrap}{flag} --mend` sets {key}={value} of {topic}"


def lost_topics(
    wanted: Sequence[TopicSpec], there: Collection[str], accepted: Collection[str]
) -> Sequence[str]:
    """Return the topics that are missing although others are there, but for those accepted.

    The one of snapshots is a short cut and may be made at any time.
    """
    if not there:
        return ()
    return [
        spec.name
        for spec in wanted
        if spec.name not in there
        and spec.role != "snapshots"
        and (spec.name not in accepted or spec.role == "journal")
    ]


def half_an_environment(
    wanted: Sequence[TopicSpec], there: Collection[str], lost: Sequence[str], *, bootstrap: str
) -> str:
    """Return what is wrong if some topics of an environment are there, and others were lost."""
    journal = next((spec.name for spec in wanted if spec.role == "journal"), "")
    flag = f"{prefix_flag(journal)} --kafka {bootstrap}"
    text = (
        f"of the topics of this environment {', '.join(sorted(there))} are there, and "
        f"{', '.join(lost)} not: what those held is lost, and nothing is made in their place "
        "unasked. Bring the broker's data back from a backup"
    )
    if journal in lost:
        return text + (
            f"; without {journal}, the journal, everything that was decided is forgotten: `teo "
            f"journal begin-anew --reason TEXT{flag}` begins another one, makes what else is "
            "missing, and says what it can carry over"
        )
    asked = " ".join(f"--make-missing {name}" for name in lost)
    return f"{text}; or go on without what they held: `teo init {asked}{flag}`"
