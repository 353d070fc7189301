"""Results: the test cases of an execution, as JSON and as JUnit XML."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from starlette.responses import Response, StreamingResponse

from api.answering import list_answer
from api.call import Call
from api.junit import junit_xml
from api.limits import LIST_LIMIT_MAX
from api.models.answers import Case, Items
from api.models.queries import AttemptQuery, CasesQuery
from api.operations import Operation
from api.routes.executions import attempt_of, execution_of
from projections.rows import CaseRow, SuiteRow


async def list_cases(call: Call) -> Response:
    """Test cases of one attempt, or of all, in the order they were recorded."""
    row = await execution_of(call)
    attempt = attempt_of(row, call.query_as(CasesQuery).attempt)
    return await list_answer(
        call, Case, lambda part: call.service.reads.cases(row.id, attempt, part)
    )


async def get_junit(call: Call) -> Response:
    """The cases as JUnit XML: of the attempt asked for, else of the last."""
    row = await execution_of(call)
    attempt = attempt_of(row, call.query_as(AttemptQuery).attempt)
    if attempt is None and row.attempts:
        attempt = row.attempts[-1].number
    reads = call.service.reads

    async def cases_of(suite: SuiteRow) -> AsyncGenerator[Sequence[CaseRow], None]:
        """Yield as many cases as were counted: in a live attempt more may have come."""
        assert attempt is not None, "only an attempt has suites"
        left, number = suite.tests, suite.first
        while left > 0:
            limit = min(left, LIST_LIMIT_MAX)
            part, number = await reads.cases_of(row.id, attempt, suite.name, number, limit)
            if not part:
                return
            yield part
            left -= len(part)
            await asyncio.sleep(0)  # Others get their turn, also if this client takes all at once.

    suites = [] if attempt is None else await reads.suites(row.id, attempt)
    document = junit_xml(row, attempt, suites, cases_of)
    return StreamingResponse(document, media_type="application/xml")


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/executions/{id}/cases",
        name="listCases",
        summary="List test cases",
        handler=list_cases,
        tag="Results",
        query=CasesQuery,
        answer=Items[Case],
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/executions/{id}/junit",
        name="getJunit",
        summary="Get the test cases as JUnit XML",
        handler=get_junit,
        tag="Results",
        query=AttemptQuery,
        media={"application/xml": "JUnit XML, one `testsuite` for each suite."},
        problems=(404,),
    ),
)
