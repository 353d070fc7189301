"""Pools: what there is, and registering benches in them."""

from starlette.responses import Response

from adapters.grammar import wrong_name
from api.answering import command_answer
from api.auth.principal import Role
from api.call import Call
from api.encoding import dumps, json_response
from api.models.answers import AppliedBenches, Bench, Items, Pool
from api.models.requests import ApplyBenchesBody
from api.operations import Operation
from api.problems import Problem
from events.commands import ApplyBenches
from events.shared import BenchSpec, HealthPolicy, StepPolicy
from projections.read_model import ReadModel
from projections.rows import PoolRow


async def list_pools(call: Call) -> Response:
    """Every pool with its counts."""
    items = [_pool(row) for row in await call.service.reads.pools()]
    return json_response(Items[Pool](items=items))


def _pool(row: PoolRow) -> Pool:
    by_state = dict(row.benches_by_state)
    return Pool.model_validate(
        {
            "pool": row.pool,
            "benches": {"total": sum(by_state.values()), "by_state": by_state},
            "reservations_queued": row.reservations_queued,
            "executions_queued": row.executions_queued,
            "executions_active": row.executions_active,
            "workers": row.workers,
            "health": row.health,
        }
    )


async def apply_benches(call: Call) -> Response:
    """Register benches, or change those of the same name."""
    pool = call.path("pool")
    if (wrong := wrong_name(pool, "pool")) is not None:
        raise Problem(422, "invalid_pool", str(wrong))
    body = call.body_as(ApplyBenchesBody)
    wanted = body.benches
    names = [bench.name for bench in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        detail = f"benches named twice: {', '.join(twice)}; name each once"
        raise Problem(422, "invalid_bench", detail)
    benches = tuple(
        BenchSpec(
            name=bench.name,
            labels=bench.labels,
            adapter=bench.adapter,
            config=dumps(bench.config).decode(),
            steps=tuple(
                StepPolicy(
                    step=step,
                    timeout_s=policy.timeout_s,
                    retries=policy.retries,
                    backoff_s=policy.backoff_s,
                )
                for step, policy in bench.steps.items()
            ),
        )
        for bench in wanted
    )

    health = None if body.health is None else HealthPolicy(**body.health.model_dump())

    async def read(_: str) -> AppliedBenches | None:
        rows = [await call.service.reads.bench(pool, name) for name in names]
        found = [Bench.model_validate(row) for row in rows if row is not None]
        return AppliedBenches(pool=pool, benches=found) if len(found) == len(names) else None

    return await command_answer(call, pool, ApplyBenches(benches=benches, health=health), read)


async def pool_or_only(reads: ReadModel, pool: str | None) -> str:
    """Return `pool`, or the only pool there is. Raises the 422 that names the pools."""
    if pool is not None:
        return pool
    names = [row.pool for row in await reads.pools()]
    if len(names) == 1:
        return names[0]
    there = (
        f"there are {', '.join(names)}" if names else "there is none: `teo bench apply` makes one"
    )
    raise Problem(422, "pool_missing", f"name the pool: {there}")


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/pools",
        name="listPools",
        summary="List pools",
        handler=list_pools,
        tag="Pools and benches",
        answer=Items[Pool],
    ),
    Operation(
        method="PUT",
        path="/v1/pools/{pool}/benches",
        name="applyBenches",
        summary="Register or change benches",
        handler=apply_benches,
        tag="Pools and benches",
        role=Role.operator,
        body=ApplyBenchesBody,
        answer=AppliedBenches,
        is_command=True,
        problems=(422,),
    ),
)
