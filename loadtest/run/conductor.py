"""One run on this machine: gateways and fleets are started, told what to do and when, watched, and stopped.

Order: check → gateways → fleets → connect → measure, with the scenario's actions → settle → fleets stop → gateways stop
→ judge what was stored → result and report. Whatever happens after the start, the end of this order is kept to, so that
there is a report of what was.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import HeiwaError
from loadtest.cloud import fronts
from loadtest.cloud.rollout import Rollout, Start, Witness
from loadtest.fleet.sample import Sample
from loadtest.processes import machine, plan
from loadtest.processes.fleets import FleetProcess
from loadtest.processes.gateways import GatewayProcess, gateway_name, make_secret
from loadtest.results import stores
from loadtest.results.recorder import Recorder
from loadtest.results.records import Begin, Happened, ProcessReading, RunRecord, Told
from loadtest.run import folder as run_folder
from loadtest.run import preflight
from loadtest.run.folder import Journal, RunOutcome
from loadtest.run.options import RunOptions, View
from loadtest.scenario.scenario import TimedAction

FLEET_START_S = 60.0
# smaps_rollup walks all of a process, which can map no memory meanwhile: not each second, and not during a deploy.
WHOLE_EVERY_S = 20
GATEWAYS_AT_ONCE = 4


class Conductor:
    """Use once: `await run(…)`; `stop` ends it early, but in order; `at_once` kills what still runs."""

    def __init__(self, options: RunOptions, view: View) -> None:
        self._options = options
        self._scenario = options.scenario
        self._view = view
        self._recorder = Recorder()
        self._parts = plan.parts(options.scenario, options.share, options.recorded)
        self._devices = sum(part.devices for part in self._parts)
        self._fleets: list[FleetProcess] = []
        self._gateways: list[GatewayProcess] = []
        self._changed = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []
        self._rollout: Rollout | None = None
        self._count = 0 if options.targets else options.gateways or plan.gateways(options.scenario, self._devices)

    async def run(self, stop: asyncio.Event, at_once: asyncio.Event) -> RunOutcome:
        """The whole run; returns what was written to the folder. Raises HeiwaError when it could not begin."""
        self._stop = stop
        await self._check()
        out = run_folder.make(self._options.out)
        self._watch(at_once, self._kill_all)
        with Journal(out) as self._journal:
            try:
                await self._begin(out)
                await self._play()
            except HeiwaError as error:
                self._happen("phase", str(error), name="stopped")
                raise
            finally:
                await self._end(out)
        return run_folder.write(out, self._recorder)

    async def _check(self) -> None:
        plan.check_files(self._scenario, self._devices, self._count, machine.file_limit(), machine.system_files_free())
        fronts.check(self._scenario.deploy, self._devices, machine.file_limit())
        plan.check_memory(self._devices, len(self._parts), self._count, machine.memory_available_bytes())
        if hurried := plan.too_fast(self._scenario, self._devices, machine.cores()):
            self._view.note(hurried)
        for said in await asyncio.to_thread(preflight.check_tracks, self._scenario.fleet.tracks):
            self._view.note(said)
        for url in self._options.targets:
            await asyncio.to_thread(preflight.check_target, url, self._options.secret, self._scenario.fleet.account)

    async def _begin(self, out: Path) -> None:
        self._record(self._description())
        self._record(machine.kernel())
        secret = self._options.secret
        if self._count:
            self._phase("gateways")
            secret = await self._start_gateways(out)
        self._phase("fleet")
        urls = list(self._options.targets) or [gateway.url for gateway in self._gateways]
        if self._rollout is not None:
            urls = self._rollout.urls()
        local = all(await asyncio.gather(*(asyncio.to_thread(preflight.is_local, url) for url in urls)))
        run = f"{self._options.seed:x}.{self._options.start_at_ms or _now_ms():x}."
        common = plan.Common(urls, secret, self._options.seed, run, local, self._options.start_at_ms)
        for part in self._parts:
            fleet = FleetProcess(part, out / f"{part.name}.log")
            options = plan.fleet_options(self._scenario, part, common, str(out / f"{part.name}.acked"))
            await fleet.start(options, self._on_sample, self._on_event, self._options.fleet_command)
            self._fleets.append(fleet)
            self._watch(fleet.ended, partial(self._fleet_ended, fleet))
        await self._wait(lambda: all(fleet.last or fleet.died for fleet in self._fleets), FLEET_START_S)
        if all(fleet.died for fleet in self._fleets):
            raise HeiwaError(f"the fleet did not start: {self._fleets[0].why()}")
        await self._read_processes(whole=True)
        self._sampler = asyncio.create_task(self._sample(), name="sampler")

    async def _start_gateways(self, out: Path) -> str:
        secret_file = out / "secret"
        secret = make_secret(secret_file)
        if self._scenario.deploy is not None:
            await self._start_deploy(out, secret_file, secret)
            return secret
        turns = asyncio.Semaphore(GATEWAYS_AT_ONCE)
        self._gateways = [
            GatewayProcess(*gateway_name(self._options.share.number, out, number))
            for number in range(1, self._count + 1)
        ]

        async def start(gateway: GatewayProcess) -> None:
            async with turns:
                await gateway.start(secret_file, self._scenario.gateways.settings)
            self._watch(gateway.ended, partial(self._gateway_ended, gateway))

        started = await asyncio.gather(*map(start, self._gateways), return_exceptions=True)
        for failed in started:
            if failed is not None:
                raise failed
        return secret

    async def _start_deploy(self, out: Path, secret_file: Path, secret: str) -> None:
        """The old gateways of a deploy, behind their load balancer."""
        scenario, share = self._scenario, self._options.share.number
        assert scenario.deploy is not None
        named = partial(gateway_name, share, out)
        start = Start(out, named, secret_file, secret, scenario.fleet.account, scenario.gateways.settings)
        witness = Witness(self._tell, self._happen, self._record, self._gateway_started)
        self._rollout = Rollout(scenario.deploy, start, witness)
        await self._rollout.begin()

    async def _deploy(self, rollout: Rollout) -> None:
        playing = asyncio.create_task(rollout.play(), name="deploy")
        playing.add_done_callback(lambda _: self._changed.set())
        if not await self._wait(playing.done, math.inf):
            playing.cancel()
        await asyncio.gather(playing, return_exceptions=playing.cancelling() > 0)

    def _gateway_started(self, gateway: GatewayProcess) -> None:
        self._gateways.append(gateway)
        self._watch(gateway.ended, partial(self._gateway_ended, gateway))

    async def _play(self) -> None:
        scenario = self._scenario
        if self._options.recorded is not None:
            self._note(self._options.recorded.text())
        if self._options.start_at_ms:
            wait_s = self._options.start_at_ms / 1000 - time.time()
            self._note(f"waiting {wait_s:.0f} s for the common start")
            await self._wait(lambda: False, wait_s)
        self._phase("connect")
        await self._tell("connect")
        if not await self._wait(self._all_connected, scenario.connect.within_s):
            self._note(f"not all were connected within {scenario.connect.within_s:g} s")
        await self._read_processes(whole=True)
        self._phase("measure")
        if self._options.recorded is not None or not scenario.events.none:
            await self._tell("send")
        began_s = time.monotonic()
        for action in sorted(scenario.actions, key=lambda action: action.at_s):
            await self._wait(lambda: False, began_s + action.at_s - time.monotonic())
            if self._stop.is_set():
                break
            await self._act(action)
        if self._rollout is not None:
            await self._deploy(self._rollout)
        else:
            await self._wait(lambda: False, began_s + scenario.run.duration_s - time.monotonic())
        await self._read_processes(whole=True)
        self._phase("settle")
        await self._tell("pause")
        await self._wait(self._all_settled, scenario.run.settle_s)

    async def _act(self, action: TimedAction) -> None:
        if action.do == "cut":
            self._happen("action", f"cut {action.fraction:.1%} of all connections ({action.how})")
            await self._tell("cut", fraction=action.fraction, how=action.how, for_s=action.for_s)
        elif action.gateway <= len(self._gateways):
            gateway = self._gateways[action.gateway - 1]
            self._happen("action", f"killed {gateway.name}")
            await gateway.kill()
            await self._retarget()

    async def _end(self, out: Path) -> None:
        """Stop everything in order; nothing here may keep the rest from happening."""
        if self._stop.is_set():
            self._happen("phase", "stopped by Ctrl-C", name="stopped")
        elif self._fleets and all(fleet.died for fleet in self._fleets):
            self._happen("phase", "no fleet process is left", name="stopped")
        self._phase("stop")
        await asyncio.gather(*(fleet.stop() for fleet in self._fleets))
        sampler = getattr(self, "_sampler", None)
        if sampler is not None:
            sampler.cancel()
            await asyncio.gather(sampler, return_exceptions=True)
        await asyncio.gather(*(gateway.stop() for gateway in self._gateways), return_exceptions=True)
        if self._rollout is not None:
            await self._rollout.close()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        if self._fleets and (self._gateways or self._options.operations):
            self._phase("judge")
            await self._judge(out)
        self._happen("phase", "end", name="end")

    async def _judge(self, out: Path) -> None:
        """Look for every acknowledged event in what was stored; nothing of it is kept unless something is missing."""
        acked = [out / f"{part.name}.acked" for part in self._parts]
        folders = [gateway.folder for gateway in self._gateways]
        options, told = self._options, self._recorder.totals()["acked"]
        account = self._scenario.fleet.account
        try:
            judged = await stores.judge(folders, options.operations, options.secret, account, acked, told)
        except (HeiwaError, OSError) as error:
            self._note(f"loss and doubling are not judged: {error}")
            return
        self._record(judged)
        if judged.acked < told:
            self._note(f"{told - judged.acked} acknowledged events are not judged: who knew their ids has died")
        if not options.keep_data and not judged.lost and not judged.doubled:
            stores.remove(folders, [*acked, out / "secret"])

    async def _kill_all(self) -> None:
        """The second Ctrl-C."""
        await asyncio.gather(*(fleet.kill() for fleet in self._fleets), return_exceptions=True)
        await asyncio.gather(*(gateway.kill() for gateway in self._gateways), return_exceptions=True)

    def _description(self) -> Begin:
        options = self._options
        return Begin(
            time_ms=_now_ms(),
            scenario=options.name,
            share=str(options.share),
            devices=self._devices,
            seed=options.seed,
            options={
                "scenario": msgspec.to_builtins(self._scenario),
                "gateways": self._count,
                "targets": list(options.targets),
                "fleets": len(self._parts),
            },
            machine=machine.describe(),
            versions=machine.versions(),
        )

    def _on_sample(self, sample: Sample) -> None:
        self._record(Told(sample))
        self._changed.set()

    def _on_event(self, name: str, event: Mapping[str, Any]) -> None:
        fields = {key: value for key, value in event.items() if key != "event"}
        self._record(Happened(_now_ms(), "note", str(event.get("event", "")), name, fields))

    def _fleet_ended(self, fleet: FleetProcess) -> None:
        if fleet.died:
            self._happen("died", f"{fleet.part.name} died: {fleet.why()}; {fleet.held()}", name=fleet.part.name)
            self._view.note(f"{fleet.part.name} died ({fleet.why()}); {fleet.held()}; the rest goes on")
        self._changed.set()

    async def _gateway_ended(self, gateway: GatewayProcess) -> None:
        if gateway.died:
            text = f"{gateway.name} died: {gateway.why()}"
            self._happen("died", text, name=gateway.name)
            self._view.note(f"{text}; its devices are sent to the others")
            await self._retarget()
            if self._rollout is not None:
                await self._rollout.died(gateway)

    async def _retarget(self) -> None:
        """As a load balancer does: who comes back is sent to what is left."""
        left = [gateway.url for gateway in self._gateways if not gateway.ended.is_set()]
        if left and self._rollout is None:
            await self._tell("targets", urls=left)

    def _watch(self, ended: asyncio.Event, then: Callable[[], Any]) -> None:
        async def watch() -> None:
            await ended.wait()
            result = then()
            if asyncio.iscoroutine(result):
                await result

        self._watchers.append(asyncio.create_task(watch(), name="watch"))

    async def _tell(self, do: str, **arguments: object) -> None:
        await asyncio.gather(*(fleet.tell(do, **arguments) for fleet in self._fleets))

    def _all_connected(self) -> bool:
        living = [fleet for fleet in self._fleets if not fleet.died]
        wanted = sum(fleet.part.opening for fleet in living)
        return sum(fleet.last.connected + fleet.last.given_up for fleet in living if fleet.last) >= wanted

    def _all_settled(self) -> bool:
        living = [fleet.last for fleet in self._fleets if fleet.last and not fleet.died]
        return not any(last.in_flight or last.stored for last in living)

    async def _wait(self, done: Callable[[], bool], within_s: float) -> bool:
        """Until `done`, looked at after each sample; false when it is not in time, or the run is to stop."""
        end_s = time.monotonic() + within_s
        while not done():
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self._stop.is_set() or (self._fleets and all(fleet.died for fleet in self._fleets)):
                return False
            self._changed.clear()
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._changed, self._stop)]
            await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        return True

    async def _sample(self) -> None:
        began_s = time.monotonic()
        for second in itertools.count(1):
            await asyncio.sleep(began_s + second - time.monotonic())
            await self._read_processes(whole=self._rollout is None and second % WHOLE_EVERY_S == 0)
            self._record(machine.kernel())
            self._journal.flush()
            self._view.show(self._recorder, self._devices)

    async def _read_processes(self, *, whole: bool) -> None:
        for line in await asyncio.to_thread(self._processes, whole):
            self._record(line)

    def _processes(self, whole: bool) -> list[ProcessReading]:
        found = [machine.process(gateway.name, "gateway", gateway.pid, whole=whole) for gateway in self._gateways]
        found += [machine.process(fleet.part.name, "fleet", fleet.pid, whole=whole) for fleet in self._fleets]
        found.append(machine.own("conductor", whole=whole))
        return [process for process in found if process is not None]

    def _phase(self, name: str) -> None:
        self._happen("phase", name, name=name)
        expected = plan.expected_s(self._scenario, self._devices, self._count)
        names = list(expected)
        later = names[names.index(name) + 1 :] if name in expected else ()
        self._view.phase(name, expected.get(name, 0.0), sum(expected[other] for other in later))

    def _note(self, text: str) -> None:
        self._happen("note", text)

    def _happen(self, what: Any, text: str, *, name: str = "") -> None:
        self._record(Happened(_now_ms(), what, text, name))
        if what in ("action", "wave", "note"):
            self._view.note(text)

    def _record(self, line: RunRecord) -> None:
        self._recorder.add(line)
        self._journal.write(line)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
