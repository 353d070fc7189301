"""`teo run`: submits an execution, shows its log, and exits as its tests did."""

from typing import Annotated, Any

import typer

from cli import arguments, exit_codes
from cli.client import Client, Json, segment
from cli.durations import parse_optional
from cli.follow import LogFollower, queue_text, wait_for_end, wait_for_start
from cli.problems import BadUsage, OutputLost, Problem, Refused
from cli.render import plain
from cli.run_spec import RunSpec, read_spec
from cli.session import RESOURCE_FORMATS, Session
from cli.signals import Interrupted, Interrupts
from cli.summary import summary
from events.shared import VERDICTS_BY

CANCEL_WAIT_S = 30.0


def run(
    session: Session,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="CMD", help="What to run on the bench; write -- before it."),
    ] = None,
    selectors: arguments.Selectors = None,
    pool: arguments.Pool = None,
    reservation: Annotated[
        str | None, typer.Option("--reservation", help="Run inside this reservation.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="Longest the command may run.")] = None,
    idle_timeout: Annotated[str | None, typer.Option(help="Longest without output.")] = None,
    wait_timeout: Annotated[str | None, typer.Option(help="Longest wait for a bench.")] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="New tries after an infrastructure error.")
    ] = None,
    retries_on_failure: Annotated[
        int | None, typer.Option(min=0, help="New tries after tests that failed.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    junit: Annotated[list[str] | None, typer.Option(help="Glob of JUnit XML files.")] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="Glob of files to keep.")] = None,
    verdict: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(VERDICTS_BY), help="What decides if exit code and report disagree."
        ),
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="Variable NAME=VALUE, no secret.")] = None,
    memory_max: Annotated[
        str | None, typer.Option(help="Memory it may take, as in 512M; over it is a failure.")
    ] = None,
    processes_max: Annotated[
        int | None, typer.Option(min=1, help="Processes and threads it may have at once.")
    ] = None,
    disk_max: Annotated[
        str | None, typer.Option(help="What its workspace may hold, as in 2G.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the id and leave.")] = False,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="YAML or JSON of the run; - is stdin.")
    ] = None,
) -> int:
    """Run a command on a bench, follow it, and exit with its verdict."""
    output = session.output(RESOURCE_FORMATS, default="name" if detach else "table")
    spec = (read_spec(file) if file else RunSpec()).over(
        command=tuple(command or ()),
        selector=arguments.selector(selectors),
        pool=pool,
        reservation=arguments.reservation_id(reservation) if reservation else None,
        timeout_s=parse_optional(timeout, name="--timeout"),
        idle_timeout_s=parse_optional(idle_timeout, name="--idle-timeout"),
        wait_timeout_s=parse_optional(wait_timeout, name="--wait-timeout"),
        retries=retries,
        retries_on_failure=retries_on_failure,
        priority=priority,
        junit=tuple(junit or ()),
        artifacts=tuple(artifact or ()),
        verdict_by=arguments.verdict_by(verdict, name="--verdict") if verdict is not None else None,
        env=arguments.environment(env),
        memory_max_bytes=arguments.size(memory_max, name="--memory-max") if memory_max else None,
        processes_max=processes_max,
        disk_max_bytes=arguments.size(disk_max, name="--disk-max") if disk_max else None,
    )
    if not spec.command:
        raise BadUsage("no command to run", next_step="write it last: teo run -l k=v -- CMD…")
    spec.check()
    if spec.pool is None and spec.reservation is None:
        spec = spec.over(pool=session.target().pool)
    with session.client() as client, Interrupts() as interrupts:
        return _Run(session, client, interrupts, output).go(spec.body(), is_detached=detach)


class _Run:
    """One `teo run`, from the submission to the exit code."""

    def __init__(
        self, session: Session, client: Client, interrupts: Interrupts, output: Any
    ) -> None:
        self._session = session
        self._screen = session.screen
        self._client = client
        self._interrupts = interrupts
        self._output = output
        self._execution: Json | None = None
        self._lost = 0
        """Number of the last attempt of which was said that it is tried again."""
        self._is_waiting = False
        self._waits_for = ""

    def go(self, body: Json, *, is_detached: bool) -> int:
        try:
            # A signal must not come between the server's yes and our knowing the id.
            with self._interrupts.shielded():
                self._execution = self._client.write("POST", "/v1/executions", body)
            if is_detached:
                self._show(self._execution)
                return 0
            return self._follow(self._execution)
        except Interrupted as interrupt:
            return self._cancel(interrupt.number)
        except BrokenPipeError:
            # Nobody reads the log any more, as in `teo run … | head`: a local command would
            # be ended by SIGPIPE here.
            self._cancel_quietly("the reader of the log has gone")
            raise
        except OutputLost as lost:
            self._cancel_quietly("its output could not be written")
            if self._execution is not None:
                execution_id = self._execution["id"]
                lost.what += f"; {execution_id} is cancelled"
                lost.next_step = f"{lost.next_step}; its log is kept: `teo logs {execution_id}`"
            raise
        except Exception:
            if self._execution is not None:
                execution_id = self._execution["id"]
                self._screen.complain(
                    f"teo: {execution_id} goes on without us: `teo wait {execution_id}`, "
                    f"`teo cancel {execution_id}`"
                )
            raise

    def _follow(self, execution: Json) -> int:
        execution_id = execution["id"]
        self._screen.note(f"execution {execution_id}")
        try:
            with self._screen.spinner(f"{execution_id} is submitted") as spinner:
                execution = wait_for_start(self._client, execution, spinner.update)
                if execution["status"] != "finished":
                    spinner.update(f"{execution_id} {_place(execution)}")
            follower = LogFollower(
                self._client,
                execution_id,
                self._screen,
                write=self._write,
                on_attempt=lambda number: self._say_attempt(execution_id, number),
                on_requeued=lambda ended: self._say_requeued(execution_id, ended),
                on_silence=lambda: self._say_wait(execution_id),
            )
            follower.run()
            execution = wait_for_end(self._client, execution_id)
        except OutputLost:
            raise
        except Problem as problem:
            # Whatever stops this command, the execution goes on: say how to find it again.
            problem.next_step = (
                f"{execution_id} goes on without us: `teo wait {execution_id}`, "
                f"`teo logs {execution_id} -f`, `teo cancel {execution_id}`"
            )
            raise
        for line in summary(self._client, self._screen, execution, missing=follower.missing):
            self._screen.note(line)
        if self._output != "table":
            self._show(execution)
        return exit_codes.of_execution(
            execution.get("verdict"), execution.get("code"), execution.get("fault")
        )

    def _write(self, text: str, is_error: bool) -> None:
        # With -o json the result alone is on stdout.
        self._screen.write_log(text, is_error=is_error or self._output != "table")

    def _say_attempt(self, execution_id: str, number: int) -> None:
        self._is_waiting = False
        if number == 1 or self._screen.is_quiet:
            return
        attempts = {item["number"]: item for item in self._now(execution_id).get("attempts", ())}
        before, now = attempts.get(number - 1, {}), attempts.get(number, {})
        ended = "" if self._lost >= number - 1 else f"attempt {number - 1} ended: {_why(before)}; "
        self._screen.note(f"{ended}attempt {number} on {now.get('bench', '?')}")

    def _say_requeued(self, execution_id: str, ended: Json) -> None:
        if self._screen.is_quiet or ended["attempt"] <= self._lost:
            return
        self._lost = ended["attempt"]
        self._screen.note(f"attempt {self._lost} ended: {_why(ended)}; it is tried again")
        self._is_waiting = True
        self._say_wait(execution_id)

    def _say_wait(self, execution_id: str) -> None:
        """Say why it waits again, if no bench can serve it; the same is not said twice."""
        if not self._is_waiting:
            return
        execution = self._now(execution_id)
        self._is_waiting = execution["status"] == "queued"
        cause = str(execution.get("stuck") or "") if self._is_waiting else ""
        if cause and cause != self._waits_for:
            self._screen.note(queue_text({**execution, "reason": ""}))
        self._waits_for = cause

    def _now(self, execution_id: str) -> Json:
        found: Json = self._client.get(f"/v1/executions/{segment(execution_id)}", is_following=True)
        return found

    def _show(self, execution: Json) -> None:
        from cli.executions import show_execution

        show_execution(self._screen, execution, output=self._output)

    def _cancel(self, number: int) -> int:
        code = exit_codes.of_signal(number)
        if self._execution is None:
            return code
        execution_id = self._execution["id"]
        try:
            # First the deed, then the word: the terminal may be gone, or take nothing.
            self._delete(execution_id, "interrupted by the user")
            self._screen.note(
                f"\ncancelling {execution_id} and freeing its bench; again to leave at once"
            )
            execution = wait_for_end(self._client, execution_id, timeout_s=CANCEL_WAIT_S)
            self._screen.note(f"{execution_id} is {execution.get('verdict')}")
        except Problem as problem:
            self._screen.complain(f"teo: {execution_id} may still run: {problem}")
        except Interrupted:
            self._screen.complain(
                f"teo: left while {execution_id} was being cancelled; see `teo status "
                f"{execution_id}`"
            )
        return code

    def _cancel_quietly(self, reason: str) -> None:
        if self._execution is not None:
            try:
                self._delete(self._execution["id"], reason)
            except Problem as problem:
                self._screen.complain(f"teo: {self._execution['id']} may still run: {problem}")

    def _delete(self, execution_id: str, reason: str) -> None:
        try:
            self._client.write(
                "DELETE", f"/v1/executions/{segment(execution_id)}", params={"reason": reason}
            )
        except Refused as refused:
            if refused.code != "execution_finished":
                raise


def _why(attempt: Json) -> str:
    """Return code and reason of an attempt that ended."""
    said = [plain(attempt[key]) for key in ("code", "reason") if attempt.get(key)]
    return ", ".join(said) or "an infrastructure error"


def _place(execution: Json) -> str:
    bench = execution.get("bench")
    return f"runs on {bench}" if bench else f"is {execution['status']}"
