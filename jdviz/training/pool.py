"""Worker processes and the queue in front of them, owned by the server.

At most `max_workers` runs train at once; others wait in order of arrival. One spare worker stays
warm, torch loaded, so that Start does not wait for an import. The pool knows each run's owner, a
visitor's session, and ends the runs when that session is gone.
"""

import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from jdviz.problems import find_problem
from jdviz.runs import FINAL_STATUSES, RunStore, StoreError
from jdviz.training.config import RunConfig
from jdviz.training.limits import RunLimits
from jdviz.training.process import WorkerProcess

# Ended runs that the pool still knows; the store knows them all.
REMEMBERED = 200


@dataclass(frozen=True)
class RunState:
    """Where a run stands, as the server knows it.

    Attributes:
        owner: The visitor who started it.
        status: queued, running, paused, waiting (its store refuses, see the message) or a final
            status.
        message: One sentence for a person, or empty.
        place: Place in the queue, 1 for the next, 0 when not queued.
        waiting: How many runs wait in the queue.
    """

    owner: str
    status: str
    message: str = ""
    place: int = 0
    waiting: int = 0


@dataclass(eq=False)
class _Job:
    run_id: str
    config: RunConfig
    owner: str
    pace: float
    paused: bool
    status: str = "queued"
    message: str = ""
    worker: WorkerProcess | None = None
    early: list[str] = field(default_factory=list)

    @property
    def final(self) -> bool:
        return self.status in FINAL_STATUSES


class WorkerPool:
    """Starts runs, passes commands on, and answers where each run stands.

    Args:
        store: Where the runs are recorded.
        max_workers: How many runs train at once.
        warm: Keep one idle worker with torch loaded.
        limits: What a run may take.

    Raises:
        ValueError: If `max_workers` is below 1.
    """

    def __init__(
        self,
        store: RunStore,
        max_workers: int,
        *,
        warm: bool = True,
        limits: RunLimits | None = None,
    ) -> None:
        if max_workers < 1:
            raise ValueError(f"got max_workers={max_workers}, expected at least 1")
        self.store = store
        self.max_workers = max_workers
        self.limits = limits or RunLimits()
        self._warm = warm
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._spare: WorkerProcess | None = None
        self._closed = False
        self._departures: dict[str, threading.Timer] = {}
        with self._lock:
            self._fill()

    def start(
        self,
        config: RunConfig,
        *,
        owner: str,
        pace: float = 0.0,
        paused: bool = False,
        name: str = "",
    ) -> str:
        """Begin a run for a visitor, ending those that this visitor had.

        Args:
            config: What to train.
            owner: The visitor's session.
            pace: Steps per second at most, 0 for no limit.
            paused: Wait for the first Step or Resume.
            name: What the visitor calls it, or empty.

        Returns:
            The run's identifier in the store.

        Raises:
            ConfigError: If the settings are not valid, or beyond the limits.
            StoreError: If the store cannot be written.
        """
        (run_id,) = self._start([config], owner, pace, paused, name, group="")
        return run_id

    def start_group(
        self,
        configs: Sequence[RunConfig],
        *,
        owner: str,
        pace: float = 0.0,
        paused: bool = False,
        name: str = "",
    ) -> list[str]:
        """Begin runs that are to be seen side by side, ending those that this visitor had.

        They train at once where there are workers enough, else one after the other in their order.

        Args:
            configs: What to train, at least one.
            owner: The visitor's session.
            pace: Steps per second of each at most, 0 for no limit.
            paused: Wait for the first Step or Resume.
            name: What the visitor calls each of them, or empty.

        Returns:
            The runs' identifiers in the order of `configs`; in the store they share a group.

        Raises:
            ConfigError: If the settings of one are not valid, or beyond the limits; then none is
                started and none is ended.
            StoreError: If the store cannot be written.
            ValueError: If there is no configuration.
        """
        if not configs:
            raise ValueError("got no configuration, expected at least one; pass what to train")
        return self._start(configs, owner, pace, paused, name, group=uuid.uuid4().hex)

    def _start(
        self,
        configs: Sequence[RunConfig],
        owner: str,
        pace: float,
        paused: bool,
        name: str,
        group: str,
    ) -> list[str]:
        for config in configs:
            config.validate()
            self.limits.check(config)
        self.release(owner)
        jobs = []
        for config in configs:
            run_id = self.store.create_run(
                config.to_dict(),
                name=name,
                owner=owner,
                group=group,
                objectives=find_problem(config.problem).task_names,
            )
            jobs.append(_Job(run_id, config, owner, pace, paused))
        with self._lock:
            self._jobs.update({job.run_id: job for job in jobs})
            self._queue.extend(jobs)
            self._fill()
        return [job.run_id for job in jobs]

    def command(self, run_id: str, name: str) -> None:
        """Pause, resume, step or stop a run; a run that has ended ignores it.

        Args:
            run_id: The run.
            name: pause, resume, step or stop.

        Raises:
            ValueError: If the command is unknown.
        """
        if name not in {"pause", "resume", "step", "stop"}:
            raise ValueError(f"got command {name!r}, expected pause, resume, step or stop")
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None or job.final:
                return
            if job.worker is not None and job.worker.ready:
                job.worker.send({"command": name})
                return
            if name != "stop":
                job.early.append(name)  # for when it begins
                return
            if job.worker is not None:
                self._take_back(job, job.worker)
            elif job in self._queue:
                self._queue.remove(job)
            else:
                return  # its worker has just ended and settles it
        self._settle(job, "stopped", "")

    def set_pace(self, run_id: str, pace: float) -> None:
        """Change the pace of a run in progress, steps per second, 0 for no limit."""
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None or job.final:
                return
            job.pace = pace
            if job.worker is not None and job.worker.ready:
                job.worker.send({"pace": pace})

    def state(self, run_id: str) -> RunState | None:
        """Where a run of this server stands; None for a run that another process wrote."""
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None:
                return None
            place = self._queue.index(job) + 1 if job in self._queue else 0
            return RunState(job.owner, job.status, job.message, place, len(self._queue))

    def active(self) -> int:
        """How many runs hold a worker and are not paused."""
        with self._lock:
            return sum(
                job.worker is not None and job.status in {"queued", "running"}
                for job in self._jobs.values()
            )

    def release(self, owner: str) -> None:
        """End every run of a visitor."""
        with self._lock:
            runs = [job.run_id for job in self._jobs.values() if job.owner == owner]
        for run_id in runs:
            self.command(run_id, "stop")

    def depart(self, owner: str, grace_s: float) -> None:
        """A visitor's connection is gone: end their runs unless they return within `grace_s`."""
        timer = threading.Timer(grace_s, self._expire, args=(owner,))
        timer.daemon = True
        with self._lock:
            former = self._departures.pop(owner, None)
            self._departures[owner] = timer
        if former is not None:
            former.cancel()
        timer.start()

    def arrive(self, owner: str) -> None:
        """A visitor is here, or back: what was about to end goes on."""
        with self._lock:
            timer = self._departures.pop(owner, None)
        if timer is not None:
            timer.cancel()

    def adopt(self, run_id: str, owner: str) -> bool:
        """Give a run to a visitor if the one who had it has departed, as after a reload.

        Whatever else the departed one had goes along: once they are taken to be back, nothing else
        would end it.

        Args:
            run_id: The run. Whoever knows its identifier, which cannot be guessed, had its address.
            owner: The visitor who asks for it.

        Returns:
            Whether the run is now this visitor's.
        """
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None or job.owner not in self._departures:
                return False
            former = job.owner
            for one in self._jobs.values():
                if one.owner == former:
                    one.owner = owner
            # Under the lock, so that the visitor's time cannot run out in between.
            self.arrive(former)
        return True

    def _expire(self, owner: str) -> None:
        with self._lock:
            self._departures.pop(owner, None)
        self.release(owner)

    def close(self, timeout_s: float = 5.0) -> None:
        """End every worker, and say of runs that no one had begun that they were interrupted."""
        with self._lock:
            self._closed = True
            workers = [job.worker for job in self._jobs.values() if job.worker is not None]
            workers += [self._spare] if self._spare is not None else []
            waiting = list(self._queue)
            waiting += [job for job in self._jobs.values() if job.worker and not job.worker.ready]
            self._queue.clear()
            self._spare = None
        for job in waiting:
            self._settle(job, "interrupted", "The server was closed before its turn came.")
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.join(timeout_s)

    def _fill(self) -> None:
        """Give waiting runs to workers while there is room. Call with the lock held."""
        if self._closed:
            return
        try:
            while self._queue and self._busy() < self.max_workers:
                worker = self._spare or self._new_process()
                self._spare = None
                self._hand_over(self._queue.popleft(), worker)
            # Not beside one that a visitor waits for: two that load at once take twice as long.
            loading = any(job.worker and not job.worker.ready for job in self._jobs.values())
            if self._warm and self._spare is None and not loading:
                self._spare = self._new_process()
        except OSError as error:
            # No process can be started now; those that wait are told, the others go on.
            for job in self._queue:
                message = f"No worker process could be started ({error.strerror}). Try again later."
                self._settle(job, "failed", message)
            self._queue.clear()

    def _hand_over(self, job: _Job, worker: WorkerProcess) -> None:
        """Give a run to a worker; one that still loads torch is told of it when it is ready."""
        job.worker = worker
        if worker.ready:
            self._tell(job, worker)

    def _take_back(self, job: _Job, worker: WorkerProcess) -> None:
        """Take a run from a worker that was not told of it yet, and which goes on as the spare.

        Whoever starts and stops again and again would otherwise wait each time until a process had
        loaded torch for a run that was over. Call with the lock held.
        """
        job.worker = None
        if self._warm and self._spare is None and not self._closed and worker.alive:
            self._spare = worker
        else:
            worker.kill()
        self._fill()

    def _tell(self, job: _Job, worker: WorkerProcess) -> None:
        worker.send(
            {
                "run": job.run_id,
                "config": job.config.to_dict(),
                "store": str(self.store.path),
                "pace": job.pace,
                "paused": job.paused,
                "max_seconds": self.limits.max_seconds,
            }
        )
        for name in job.early:
            worker.send({"command": name})

    def _new_process(self) -> WorkerProcess:
        return WorkerProcess(on_ready=self._ready, on_status=self._said, on_end=self._ended)

    def _ready(self, worker: WorkerProcess) -> None:
        """A worker has loaded torch."""
        with self._lock:
            worker.ready = True
            job = self._job_of(worker)
            if job is not None:
                self._tell(job, worker)
                self._fill()

    def _job_of(self, worker: WorkerProcess) -> _Job | None:
        """The run that a worker has; call with the lock held."""
        return next((job for job in self._jobs.values() if job.worker is worker), None)

    def _said(self, worker: WorkerProcess, status: str, message: str) -> None:
        """A worker tells where its run stands."""
        with self._lock:
            job = self._job_of(worker)
            if job is not None:
                self._report(job, status, message)

    def _busy(self) -> int:
        return sum(job.worker is not None for job in self._jobs.values())

    def _report(self, job: _Job, status: str, message: str) -> None:
        with self._lock:
            if not job.final:
                job.status, job.message = status, message

    def _settle(self, job: _Job, status: str, message: str) -> None:
        """Give a run without a worker its final status, in the store too if that is possible."""
        self._report(job, status, message)
        try:
            self.store.set_status(job.run_id, status, message)
        except StoreError as error:
            with self._lock:
                job.message = f"{message} {error}".strip()

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        """A worker process is gone: settle its run, and give its place to the next."""
        with self._lock:
            if self._spare is worker:
                self._spare = None
            # Under the lock: a spare may just have been given a run, and cannot be from here on.
            job = self._job_of(worker)
        if job is not None:
            status, message = job.status, job.message
            if not job.final:
                cause = f"signal {-code}" if code < 0 else f"exit status {code}"
                status = "interrupted"
                message = (
                    f"The worker process ended unexpectedly ({cause}). The steps recorded until "
                    "then are kept; press Start to run again."
                )
            # Also what the worker itself said: its store may have refused at the time.
            self._settle(job, status, message)
        with self._lock:
            if job is None:
                # A spare that dies is not replaced at once: a broken set-up would loop forever.
                return
            job.worker = None
            self._forget()
            self._fill()

    def _forget(self) -> None:
        """Drop the oldest ended runs. Call with the lock held."""
        ended = [run_id for run_id, job in self._jobs.items() if job.final and not job.worker]
        for run_id in ended[:-REMEMBERED]:
            del self._jobs[run_id]
