"""The load harness on locust: `locust -f loadtest/locustfile.py --headless -H ws://localhost:8888 --scenario steady`.

Owns the wiring: locust's events on one side, the player (this process' members) and the conductor (the run) on the
other. One locust user is one member: --users, --spawn-rate, load shapes, the user chart and the page mean members.
"""

import json
import logging
import signal
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if sys.platform != "linux":
    print("The load harness needs Linux: epoll, timerfd and the kernel's receive times.", file=sys.stderr)
    sys.exit(2)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gevent
import psutil
from locust import User, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtest import plan as plans
from loadtest import stock, web
from loadtest.conductor import Conductor
from loadtest.player import Player
from loadtest.result import write_folder
from loadtest.terminal import Progress, print_summary

BAD_PLAN = 2
IDLE_S = 1.0
REPORT_S = 30.0


class Stage:
    """What there is of a run in this locust process."""

    player: Player | None = None
    conductor: Conductor | None = None
    ending: "gevent.Greenlet[..., None] | None" = None


class Member(User):
    """One member of the room."""

    @task
    def be_a_member(self) -> None:
        """Live in the room until the run is over, then wait to be stopped."""
        if Stage.player and Stage.player.crowd:
            Stage.player.crowd.live()
        gevent.sleep(IDLE_S)


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Offer the options, and leave the terminal to the harness' own report."""
    plans.add_options(parser)
    parser.add_argument("--fanout-run", default="", include_in_web_ui=False, help="(internal) what the workers share")
    parser.set_defaults(host=plans.DEFAULT_HOST, only_summary=True, loglevel="WARNING")


@events.init.add_listener
def set_the_stage(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    """Check the plan before anything starts, and let player and conductor take their places."""
    if not isinstance(runner, MasterRunner):
        Stage.player = Player(environment)
    heed_ctrl_c(gevent.getcurrent(), isinstance(runner, WorkerRunner))
    if isinstance(runner, WorkerRunner):
        return
    try:
        plan = read_plan(environment)
    except ValueError as error:
        print(f"{error}.", file=sys.stderr)
        environment.process_exit_code = BAD_PLAN
        for worker in psutil.Process().children():  # of --processes: they would wait a minute for a master
            worker.kill()
        sys.exit(BAD_PLAN)
    options = environment.parsed_options
    options.num_users, options.spawn_rate = plan.members, options.spawn_rate or max(100, plan.members / 20)
    # Locust warns of more than 100 users a second; ours only knock, a few at a time, and wait.
    logging.getLogger("locust.runners").addFilter(lambda record: "spawn rate is very high" not in record.msg)
    conductor = Stage.conductor = Conductor(environment, lambda tally: stock.enter(environment.stats, tally))
    if web_ui:
        web.attach(environment, lambda: conductor.run)


def heed_ctrl_c(main: Any, is_worker: bool) -> None:
    """Let Ctrl-C interrupt the main greenlet, which waits, instead of whichever is at work.

    The terminal tells a worker, too; he goes on until the master ends the run.
    """

    def interrupt() -> None:
        if not (is_worker and Stage.player and Stage.player.crowd):
            main.throw(KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, interrupt)


def read_plan(environment: Any) -> plans.Plan:
    """Return the plan that the options ask for, checked against what this machine allows."""
    plan = plans.read_plan(environment.parsed_options, is_stopped_by_shape=environment.shape_class is not None)
    base_url(environment.host)
    if environment.parsed_options.out:
        check_folder(Path(environment.parsed_options.out))
    workers = getattr(environment.runner, "worker_count", 1) or 1
    if plan.in_flight and workers > 1:
        raise ValueError(f"--arrivals={plan.arrivals}: one process alone can know what everybody has; use no workers")
    plans.allow_members(-(-plan.members // workers))
    plans.allow_ports(plan.members)
    return plan


def base_url(host: str) -> str:
    """Return the address of the server's sockets.

    Raises ValueError for what is no address.
    """
    parts = urlsplit(host)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if not scheme or not parts.hostname:
        raise ValueError(f"--host={host}: give the server's address as http://HOST:PORT, or https://, ws://, wss://")
    return parts._replace(scheme=scheme).geturl().rstrip("/")


def check_folder(out: Path) -> None:
    """Make the folder of the report while there is nothing to lose yet.

    Raises ValueError if that cannot be.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"--out={out}: {error.strerror}") from None


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Begin a run: the conductor first, so that the workers learn from the options what it is."""
    options = environment.parsed_options
    if Stage.conductor:
        try:
            plan = read_plan(environment)
        except ValueError as error:  # locust's page offers the options, too
            logging.getLogger(__name__).error("%s.", error)
            gevent.spawn(environment.runner.stop)
            return
        run = Stage.conductor.prepare(plan, environment.host)
        options.fanout_run = json.dumps({"number": run.number, "workers": run.workers, "plan": asdict(plan)})
        Stage.ending = gevent.spawn(finish, environment, run)
    if Stage.player:
        shared = json.loads(options.fanout_run)
        plan = plans.Plan(**shared["plan"])
        Stage.player.prepare(plan, shared["number"], base_url(environment.host), shared["workers"])


@events.spawning_complete.add_listener
def all_are_spawned(user_count: int, **_: Any) -> None:
    """Let the conductor wait for members who are in, instead of users who are started."""
    if Stage.conductor:
        Stage.conductor.has_spawned()


def finish(environment: Any, run: Any) -> None:
    """When the verdict is there: write it, and stop or quit."""
    with Progress(run) as progress:
        while not run.over.wait(1):
            progress.update()
    result = run.result()
    out = Path(environment.parsed_options.out or f"results/{run.started_at.replace(':', '')}-{run.plan.scenario}")
    report = write_folder(out, result)
    environment.process_exit_code = result["verdict"]["exit_code"]
    print_summary(result, report)
    if environment.parsed_options.headless:
        environment.runner.quit()
    else:
        environment.runner.stop()


def await_report() -> None:
    """Wait until the report is written, unless it is its writer who asks."""
    if Stage.ending and Stage.ending is not gevent.getcurrent():
        Stage.ending.join(REPORT_S)


@events.test_stopping.add_listener
def end(environment: Any, **_: Any) -> None:
    """End the run in good order before locust stops the users."""
    if Stage.conductor:
        Stage.conductor.stop(is_by_hand=False)
        await_report()


@events.quitting.add_listener
def quit_in_order(environment: Any, **_: Any) -> None:
    """Write the report even if somebody pressed Ctrl-C, and let it be the last word on the terminal."""
    logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)
    if Stage.conductor:
        Stage.conductor.stop(is_by_hand=True)
        await_report()
    elif Stage.player:
        Stage.player.close()
