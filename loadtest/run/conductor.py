"""One run on this machine: gateways and fleets are started, commanded, watched, and stopped.

The order: check → gateways → fleets → connect → measure, with the scenario's actions → settle → stop the fleets → stop
the gateways → judge what was stored → write result and report. Whatever happens after the start, the end of this order
is kept to, so that there is a report of what happened.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from gateway.errors import HeiwaError
from loadtest.cloud import fronts
from loadtest.cloud.launcher import Start
from loadtest.cloud.rollout import Rollout, Witness
from loadtest.cloud.weighted import WeightedRollout
from loadtest.fleet.commands import ConnectCommand, CutCommand, PauseCommand, SendCommand, TargetsCommand
from loadtest.fleet.sample import Sample
from loadtest.processes import limits, machine, slices
from loadtest.processes.broker import BrokerProcess
from loadtest.processes.fleet_options import CommonOptions, fleet_options
from loadtest.processes.fleets import FleetProcess
from loadtest.processes.gateways import GatewayProcess, gateway_name, make_secret
from loadtest.results import stores
from loadtest.results.commanded import BACK, BROKER_ACTION
from loadtest.results.records import Begin
from loadtest.run import folder as run_folder
from loadtest.run import preflight
from loadtest.run.fleet_group import FleetGroup
from loadtest.run.folder import Journal, RunOutcome
from loadtest.run.gateway_group import GatewayGroup
from loadtest.run.lamps import Lamps
from loadtest.run.options import RunOptions, View
from loadtest.run.run_log import RunLog, now_ms
from loadtest.run.sampler import Sampler
from loadtest.run.watchers import Watchers
from loadtest.scenario.scenario import TimedAction

FLEET_START_S = 60.0
LAST_SECOND_S = 5.0


class Conductor:
    """Use once: `await run(…)`; `stop` ends it early, but in order; `at_once` kills what still runs."""

    def __init__(self, options: RunOptions, view: View) -> None:
        scenario = options.scenario
        self._options = options
        self._scenario = scenario
        self._slices = slices.slices(scenario, options.share, options.recorded)
        self._devices = sum(part.devices for part in self._slices)
        self._count = 0 if options.targets else options.gateways or slices.gateways(scenario, self._devices)
        self._log = RunLog(view, limits.expected_s(scenario, self._devices, self._count))
        self._fleets = FleetGroup()
        self._gateways = GatewayGroup(self._watch_gateway)
        self._sampler = Sampler(self._log, self._gateways, self._fleets, self._show, calm=scenario.deploy is None)
        self._changed = asyncio.Event()
        self._watchers = Watchers()
        self._rollout: Rollout | None = None
        self._broker: BrokerProcess | None = None
        self._lamps: Lamps | None = None

    async def run(self, stop: asyncio.Event, at_once: asyncio.Event) -> RunOutcome:
        """The whole run; returns what was written to the folder. Raises HeiwaError when it could not begin."""
        self._stop = stop
        await self._check()
        out = run_folder.make(self._options.out)
        self._watchers.watch(at_once, self._kill_all)
        with Journal(out) as journal:
            self._log.open(journal)
            try:
                await self._begin(out)
                await self._play()
            except HeiwaError as error:
                self._log.happen("phase", str(error), name="stopped")
                raise
            finally:
                await self._end(out)
        return run_folder.write(out, self._log.recorder)

    # Begin

    async def _check(self) -> None:
        scenario, view = self._scenario, self._log.view
        file_limit = machine.file_limit()
        limits.check_files(scenario, self._devices, self._count, file_limit, machine.system_files_free())
        fronts.check(scenario.deploy, self._devices, file_limit)
        limits.check_memory(self._devices, len(self._slices), self._count, machine.memory_available_bytes())
        if warning := limits.too_fast(scenario, self._devices, machine.cores()):
            view.note(warning)
        for said in await asyncio.to_thread(preflight.check_tracks, scenario.fleet.tracks):
            view.note(said)
        for url in self._options.targets:
            await asyncio.to_thread(preflight.check_target, url, self._options.secret, scenario.fleet.account)

    async def _begin(self, out: Path) -> None:
        self._log.record(self._description())
        self._log.record(machine.kernel())
        secret = self._options.secret
        if self._count:
            self._log.phase("gateways")
            secret = await self._start_gateways(out)
        self._log.phase("fleet")
        await self._start_fleets(out, secret)
        await self._start_lamps(secret)
        await self._sampler.read_processes(whole=True)
        self._sampler.start()

    async def _start_gateways(self, out: Path) -> str:
        """Start the gateways; returns the secret of their tokens."""
        secret_file = out / "secret"
        secret = make_secret(secret_file)
        scenario, share = self._scenario, self._options.share.number
        settings = await self._settings(out)
        if scenario.deploy is None:
            await self._gateways.start(self._count, share, out, secret_file, settings)
            return secret
        named = partial(gateway_name, share, out)
        start = Start(out, named, secret_file, secret, scenario.fleet.account, settings)
        witness = Witness(self._fleets.tell, self._log.happen, self._log.record, self._gateways.add)
        kind = Rollout if scenario.deploy.strategy == "rolling" else WeightedRollout
        self._rollout = kind(scenario.deploy, start, witness)
        await self._rollout.begin()
        return secret

    async def _settings(self, out: Path) -> Mapping[str, object]:
        """Of the gateways; the broker runs when they have its address."""
        given = self._scenario.gateways.settings
        if not self._scenario.gateways.broker:
            return given
        self._broker = BrokerProcess(out)
        await self._broker.start()
        return {**given, "broker.url": self._broker.url}

    async def _start_lamps(self, secret: str) -> None:
        section, account = self._scenario.lamps, self._scenario.fleet.account
        if section.each and self._gateways.processes:
            self._lamps = Lamps(section, secret, account, self._options.seed, self._log.record)
            await self._lamps.start(self._gateways.processes)

    async def _start_fleets(self, out: Path, secret: str) -> None:
        options = self._options
        urls = list(options.targets) or self._gateways.urls()
        if self._rollout is not None:
            urls = self._rollout.urls()
        local = all(await asyncio.gather(*(asyncio.to_thread(preflight.is_local, url) for url in urls)))
        run = f"{options.seed:x}.{options.start_at_ms or now_ms():x}."
        common = CommonOptions(urls, secret, options.seed, run, local, options.start_at_ms)
        for part in self._slices:
            fleet = FleetProcess(part, out / f"{part.name}.log")
            given = fleet_options(self._scenario, part, common, str(_acked_file(out, part.name)))
            await fleet.start(given, self._on_sample, self._log.told, options.fleet_command)
            self._fleets.processes.append(fleet)
            self._watchers.watch(fleet.ended, partial(self._fleet_ended, fleet))
        await self._wait(self._fleets.have_spoken, FLEET_START_S)
        if self._fleets.is_dead:
            raise HeiwaError(f"the fleet did not start: {self._fleets.processes[0].why()}")

    def _description(self) -> Begin:
        options = self._options
        return Begin(
            time_ms=now_ms(),
            scenario=options.name,
            share=str(options.share),
            devices=self._devices,
            seed=options.seed,
            options={
                "scenario": msgspec.to_builtins(self._scenario),
                "gateways": self._count,
                "targets": list(options.targets),
                "fleets": len(self._slices),
            },
            machine=machine.describe(),
            versions=machine.versions(),
        )

    # Play

    async def _play(self) -> None:
        await self._connect()
        self._log.phase("measure")
        await self._measure()
        if self._lamps is not None:
            await self._lamps.stop()
        await self._sampler.read_processes(whole=True)
        self._log.phase("settle")
        await self._fleets.tell(PauseCommand())
        await self._wait(self._fleets.are_settled, self._scenario.run.settle_s)

    async def _connect(self) -> None:
        options = self._options
        if options.recorded is not None:
            self._log.note(options.recorded.text())
        if options.start_at_ms:
            wait_s = options.start_at_ms / 1000 - time.time()
            self._log.note(f"waiting {wait_s:.0f} s for the common start")
            await self._pause(wait_s)
        self._log.phase("connect")
        await self._fleets.tell(ConnectCommand())
        within_s = self._scenario.connect.within_s
        if not await self._wait(self._fleets.are_connected, within_s):
            self._log.note(f"not all devices were connected within {within_s:g} s")
        await self._sampler.read_processes(whole=True)

    async def _measure(self) -> None:
        scenario = self._scenario
        if self._options.recorded is not None or not scenario.events.none:
            await self._fleets.tell(SendCommand())
        began_s = time.monotonic()
        for action in sorted(scenario.actions, key=lambda action: action.at_s):
            await self._pause(began_s + action.at_s - time.monotonic())
            if self._stop.is_set():
                break
            await self._act(action)
        if self._rollout is not None:
            await self._deploy(self._rollout)
        else:
            await self._pause(began_s + scenario.run.duration_s - time.monotonic())

    async def _act(self, action: TimedAction) -> None:
        if action.do == "cut":
            self._log.happen("action", f"cut {action.fraction:.1%} of all connections ({action.how})")
            await self._fleets.tell(CutCommand(action.fraction, action.how, action.for_s))
        elif action.do.endswith("_broker"):
            await self._act_on_broker(action.do.partition("_")[0])
        elif action.gateway <= len(self._gateways.processes):
            gateway = self._gateways.processes[action.gateway - 1]
            self._log.happen("action", f"killed {gateway.name}")
            await gateway.kill()
            await self._retarget()

    async def _act_on_broker(self, do: str) -> None:
        broker = self._broker
        if broker is None:
            return
        if do == BACK:
            await broker.start()
        elif do == "kill":
            await broker.kill()
        else:
            broker.freeze()
        self._log.happen("action", f"{do} the broker", name=BROKER_ACTION, do=do)

    async def _deploy(self, rollout: Rollout) -> None:
        playing = asyncio.create_task(rollout.play(), name="deploy")
        playing.add_done_callback(lambda _: self._changed.set())
        if not await self._wait(playing.done, math.inf):
            playing.cancel()
        await asyncio.gather(playing, return_exceptions=playing.cancelling() > 0)
        # The last second of the measured time has to be whole.
        second_ms = (now_ms() // 1000 + 1) * 1000
        await self._wait(lambda: self._fleets.have_told(second_ms), LAST_SECOND_S)

    # End

    async def _end(self, out: Path) -> None:
        """Stop everything in order; no step may prevent the next one."""
        if self._stop.is_set():
            self._log.happen("phase", "stopped by Ctrl-C", name="stopped")
        elif self._fleets.is_dead:
            self._log.happen("phase", "no fleet process is left", name="stopped")
        self._log.phase("stop")
        if self._lamps is not None:
            await self._lamps.stop()
        await self._fleets.stop()
        await self._sampler.stop()
        await self._gateways.stop()
        if self._broker is not None:
            await self._broker.kill()
        if self._rollout is not None:
            await self._rollout.close()
        await self._watchers.cancel()
        if self._fleets.processes and (self._gateways.processes or self._options.operations):
            self._log.phase("judge")
            await self._judge(out)
        self._log.happen("phase", "end", name="end")

    async def _judge(self, out: Path) -> None:
        """Look for every acknowledged event in what was stored; the data is kept only if something is missing."""
        options, told = self._options, self._log.recorder.totals()["acked"]
        folders, account = self._gateways.folders(), self._scenario.fleet.account
        acked = [_acked_file(out, part.name) for part in self._slices]
        try:
            judged = await stores.judge(folders, options.operations, options.secret, account, acked, told)
        except (HeiwaError, OSError) as error:
            self._log.note(f"loss and doubling are not judged: {error}")
            return
        self._log.record(judged)
        if judged.acked < told:
            missing = told - judged.acked
            self._log.note(f"{missing} acknowledged events are not judged: the process that knew their ids has died")
        if not options.keep_data and not judged.lost and not judged.doubled:
            stores.remove(folders, [*acked, out / "secret"])

    async def _kill_all(self) -> None:
        """The second Ctrl-C."""
        await self._fleets.kill()
        await self._gateways.kill()
        if self._broker is not None:
            await self._broker.kill()

    # What processes say and how they end

    def _show(self) -> None:
        self._log.view.show(self._log.recorder, self._devices)

    def _on_sample(self, sample: Sample) -> None:
        self._log.sampled(sample)
        self._changed.set()

    def _fleet_ended(self, fleet: FleetProcess) -> None:
        if fleet.died:
            name, why, held = fleet.part.name, fleet.why(), fleet.held()
            self._log.happen("died", f"{name} died: {why}; {held}", name=name)
            self._log.view.note(f"{name} died ({why}); {held}; the rest goes on")
        self._changed.set()

    def _watch_gateway(self, gateway: GatewayProcess) -> None:
        self._watchers.watch(gateway.ended, partial(self._gateway_ended, gateway))

    async def _gateway_ended(self, gateway: GatewayProcess) -> None:
        if gateway.died:
            text = f"{gateway.name} died: {gateway.why()}"
            self._log.happen("died", text, name=gateway.name)
            self._log.view.note(f"{text}; its devices are sent to the others")
            await self._retarget()
            if self._rollout is not None:
                await self._rollout.died(gateway)

    async def _retarget(self) -> None:
        """As a load balancer does: devices reconnect to the gateways that are left."""
        left = self._gateways.urls()
        if left and self._rollout is None:
            await self._fleets.tell(TargetsCommand(left))

    # Waiting

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the run is to stop."""
        await self._wait(lambda: False, seconds)

    async def _wait(self, done: Callable[[], bool], within_s: float) -> bool:
        """Wait until `done`, asked after each sample; false when it is not in time, or the run is to stop."""
        end_s = time.monotonic() + within_s
        while not done():
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self._stop.is_set() or self._fleets.is_dead:
                return False
            self._changed.clear()
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._changed, self._stop)]
            await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        return True


def _acked_file(out: Path, fleet: str) -> Path:
    return out / f"{fleet}.acked"
