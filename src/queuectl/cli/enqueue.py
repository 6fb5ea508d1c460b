"""`enqueue`: one command, one job as JSON, or a file of jobs. Kept light: it starts often."""

from __future__ import annotations

from queuectl.cli.command import Command, Context, Result
from queuectl.cli.job_options import (
    Source,
    add_command_options,
    add_job_options,
    check_options,
    given_fields,
    job_from_options,
    read_file,
    submit_one,
)
from queuectl.errors import DuplicateJobId, InvalidInput
from queuectl.text import counted, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job import NewJob

EXAMPLES = """
queuectl enqueue --command 'make report'
queuectl enqueue -- python resize.py --size 800 photo.jpg
queuectl enqueue --command 'sh backup.sh' --run-at 'tomorrow 3:00' --max-retries 5 --timeout 2h
queuectl enqueue '{"id": "job1", "command": "sleep 2"}'
queuectl enqueue --command-file script.txt --delay 90s --priority 10
queuectl enqueue --jobs-file jobs.jsonl
"""


def _configure(parser: ArgumentParser) -> None:
    parser.usage = "queuectl enqueue (--command LINE | -- WORD ... | JSON | ...) [OPTION ...]"
    what = parser.add_argument_group(
        "What to run (one of these, or the words of a command behind --)"
    )
    what.add_argument("job", nargs="?", metavar="JSON", help="one job as a JSON object")
    add_command_options(what)
    what.add_argument(
        "--job-file",
        metavar="PATH",
        action=Source,
        help="one job: a file with a JSON object (- for stdin)",
    )
    what.add_argument(
        "--jobs-file",
        metavar="PATH",
        action=Source,
        help="many jobs: a file with a JSON object a line (- for stdin); all are queued, or none",
    )
    add_job_options(parser)


def _run(context: Context) -> Result:
    args = context.args
    given = args.sources + (args.job is not None) + (context.words is not None)
    if given != 1:
        raise InvalidInput(
            "more than one command or job was given" if given else "nothing to queue",
            hint="Give one of: --command LINE, -- WORD ..., --command-file, --job-file,"
            " --jobs-file, JSON.",
        )
    if args.jobs_file is not None:
        return _enqueue_many(context)
    queue = context.queue(create=True)
    job, start = _one_job(context, queue)
    submit_one(context, queue, job, start)
    data = None
    if args.json:
        from queuectl.cli.json_output import job_object

        data = job_object(queue.get(job.id), show_env=args.show_env)
    return Result(
        data=data,
        text=f"Enqueued job: {job.id}",
        ids=[job.id],
        kept=f"The job is queued all the same: {job.id}",
    )


def _one_job(context: Context, queue: JobQueue) -> tuple[NewJob, str | None]:
    """The job, and its start time as it was written."""
    args = context.args
    if args.job is None and args.job_file is None:
        return job_from_options(context, queue), args.run_at
    from queuectl.jobs.spec import decode_text_file, job_from_json

    if args.job is not None:
        text, source = args.job, "the JSON argument"
        if not text.lstrip().startswith("{"):
            raise InvalidInput(
                f"'{visible(text, 60)}' is not a JSON object",
                hint="To queue a command: queuectl enqueue --command LINE,"
                " or queuectl enqueue -- WORD ...",
            )
    else:
        source = "stdin" if args.job_file == "-" else args.job_file
        text = decode_text_file(read_file(args.job_file), visible(source, 200))
        if not text.strip():
            raise InvalidInput(f"{visible(source, 200)} is empty: there is no job in it")
    overrides = given_fields(context)
    try:
        job = job_from_json(
            text, source=source, overrides=overrides, defaults=queue.defaults(), now=queue.now()
        )
    except InvalidInput:
        check_options(overrides, queue)
        raise
    if job.run_at is None or "delay" in overrides:
        return job, None
    return job, args.run_at or _start_in(text)


def _start_in(text: str) -> str | None:
    from queuectl.jobs.strict_json import parse_object

    fields = parse_object(text.removeprefix("\ufeff"))
    start = fields.get("run_at") or fields.get("next_run_at")
    return start if isinstance(start, str) else None


def _enqueue_many(context: Context) -> Result:
    for name in given_fields(context):
        raise InvalidInput(
            f"--{name.replace('_', '-')} does not go with --jobs-file",
            hint="Write it into each line of the file instead.",
        )
    from queuectl.cli.jobs_file import read_with_progress

    queue = context.queue(create=True)
    jobs, lines = read_with_progress(context, queue)
    try:
        context.submit(queue, jobs)
    except DuplicateJobId as error:
        taken = queue.existing(list(lines))
        first = min((lines[job_id] for job_id in taken), default=None)
        if first is None:
            raise
        source = "stdin" if context.args.jobs_file == "-" else context.args.jobs_file
        raise DuplicateJobId(
            f"{visible(source)}: line {first}: {error.message}", error.hint
        ) from None
    ids = [job.id for job in jobs]
    jobs_queued = counted(len(ids), "job")
    return Result(
        data={"enqueued": len(ids), "ids": ids},
        text=f"Enqueued {jobs_queued}",
        ids=ids,
        kept=f"All the same, {jobs_queued} were queued.",
    )


COMMANDS = {
    "enqueue": Command(
        "Queue a command. It runs when a worker is free, in the folder it was queued from.",
        _run,
        examples=EXAMPLES,
        configure=_configure,
        takes_command=True,
    )
}
