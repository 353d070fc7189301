"""Results: the test cases of an execution, as JSON and as JUnit XML."""

from starlette.responses import Response

from api.answering import list_answer
from api.call import Call
from api.junit import junit_xml
from api.limits import LIST_LIMIT_MAX
from api.models.answers import Case, Items
from api.models.queries import AttemptQuery, CasesQuery
from api.operations import Operation
from api.routes.executions import attempt_of, execution_of
from projections.rows import CaseRow, Slice


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
    cases: list[CaseRow] = []
    cursor: str | None = None
    while attempt is not None:
        part = Slice(limit=LIST_LIMIT_MAX, cursor=cursor)
        page = await call.service.reads.cases(row.id, attempt, part)
        cases.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    return Response(junit_xml(row, attempt, cases), media_type="application/xml")


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
