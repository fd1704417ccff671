"""Measures the agent beside a bare HTTP server. See docs/performance.md."""

import argparse
import http.client
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import chart
import signed
from process import CLIENT_CPU, TOKEN, Agent, Bare, Emulator

VALUE = "x" * 380  # makes an answer of about 600 bytes


def load(port, connections, seconds, name="hot"):
    """Requests answered in so many seconds."""
    out = subprocess.run(
        ["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
         "-H", f"X-KMS-Token: {TOKEN}", f"http://127.0.0.1:{port}/secretsmanager/get?secretId={name}"],
        capture_output=True, text=True, check=True,
    ).stdout
    assert "Non-2xx" not in out, out
    return next(int(line.split()[0]) for line in out.splitlines() if "requests in" in line)


class Slices:
    """Runs servers in turns, so that what disturbs the machine disturbs all of them."""

    def __init__(self, rounds, seconds):
        self.rounds, self.seconds = rounds, seconds

    def run(self, servers, connections):
        """For each server the rate and the CPU time a request, a figure for each round."""
        found = {name: ([], []) for name in servers}
        order = list(servers.items())
        for name, server in order:
            load(server.port, connections, 1)
        for _ in range(self.rounds):
            order.reverse()
            for name, server in order:
                before = server.cpu_ns()
                count = load(server.port, connections, self.seconds)
                found[name][0].append(count / self.seconds)
                found[name][1].append((server.cpu_ns() - before) / count)
        return found


def ratio(these, those):
    """Median and quartiles of the ratios of paired slices."""
    ratios = [a / b for a, b in zip(these, those)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, value, unit, goal, holds, spread=None):
        self.rows.append(dict(what=what, value=value, unit=unit, goal=goal, holds=holds, spread=spread))
        shown = f"{value:.3f}" if unit == "×" else f"{value:,.2f}"
        around = f" ({spread[0]:.3f}–{spread[1]:.3f})" if spread else ""
        mark = "ok  " if holds else "MISS" if holds is False else "    "
        print(f"{mark} {what:<58} {shown:>12} {unit:<6}{around}  goal {goal}", flush=True)

    def ratio(self, what, these, those, at_least=None, at_most=None):
        middle, low, high = ratio(these, those)
        holds = middle >= at_least if at_least else middle <= at_most
        goal = f"≥ {at_least}" if at_least else f"≤ {at_most}"
        self.add(what, middle, "×", goal, holds, (low, high))


def hits(table, programs, emulator, slices):
    emulator.put(["hot"], VALUE)
    with Agent(programs.agent, emulator) as memory, \
            Agent(programs.agent, emulator, backend="Persistent") as persistent:
        length = len(memory.read("hot"))
        persistent.read("hot")
        with Bare(programs.bare, length) as bare:
            servers = {"bare": bare, "memory": memory, "persistent": persistent}
            for connections in (10, 64):
                found = slices.run(servers, connections)
                for name, (rates, _) in found.items():
                    table.add(f"{name}, {connections} connections, {length} bytes",
                              statistics.median(rates), "req/s", "-", None)
                at = f"{connections} connections"
                table.ratio(f"in-memory hit / bare axum, {at}",
                            found["memory"][0], found["bare"][0], at_least=0.93)
                table.ratio(f"CPU of an in-memory hit / of bare axum, {at}",
                            found["memory"][1], found["bare"][1], at_most=1.08)
                table.ratio(f"persistent hit / in-memory hit, {at}",
                            found["persistent"][0], found["memory"][0], at_least=0.80)


def memory(table, programs, emulator):
    count, size = 1000, 4096
    names = [f"m{number}" for number in range(count)]
    emulator.put(names, "v" * size)
    with Agent(programs.agent, emulator) as agent:
        connection = agent.connect()
        agent.read("hot", connection)
        idle = agent.rss()
        table.add("idle memory", idle / 2**20, "MiB", "≤ 8", idle <= 8 * 2**20)
        payload = sum(len(agent.read(name, connection)) for name in names)
        more = (agent.rss() - idle) / payload
        table.add("memory of 1,000 secrets of 4 KiB / payload", more, "×", "≤ 1.25", more <= 1.25)


def first_answers(table, programs, emulator, rounds):
    def first(name, **more):
        with Agent(programs.agent, emulator, **more) as agent:
            agent.read(name)
            return (time.perf_counter() - agent.started_at) * 1000

    times = [first("hot") for _ in range(rounds)]
    middle = statistics.median(times)
    table.add("exec to first answer, in-memory miss", middle, "ms", "≤ 15", middle <= 15, None)
    names = [f"p{number}" for number in range(10_000)]
    emulator.put(names, VALUE)
    with Agent(programs.agent, emulator, backend="Persistent", size=20_000) as filled:
        connection = filled.connect()
        for name in names:
            filled.read(name, connection)
        filled.child.terminate()
        filled.child.wait()
        folder = filled.folder
        times = [first("p5000", backend="Persistent", size=20_000, folder=folder) for _ in range(rounds)]
        middle = statistics.median(times)
        table.add("exec to first answer, persistent hit of 10,000", middle, "ms", "≤ 20", middle <= 20)


def misses(table, programs, emulator, rounds):
    with Agent(programs.agent, emulator) as agent:
        through = agent.connect()
        direct = http.client.HTTPConnection("127.0.0.1", emulator.port)
        host = f"127.0.0.1:{emulator.port}"
        added = []
        for _ in range(rounds):
            began = time.perf_counter()
            agent.read("hot", through, refreshNow="true")
            middle = time.perf_counter()
            target, headers = signed.request("hot", host)
            sent = time.perf_counter()
            direct.request("POST", target, headers=headers)
            response = direct.getresponse()
            response.read()
            assert response.status == 200
            added.append((middle - began) - (time.perf_counter() - sent))
        low, middle, high = (1000 * part for part in statistics.quantiles(added, n=4))
        table.add("a miss, beyond a direct signed call", middle, "ms", "≤ 0.3", middle <= 0.3, (low, high))


def growth(table, programs, emulator, slices, entries):
    names = [f"g{number}" for number in range(entries)]
    emulator.put(names, "v" * 64)
    with Agent(programs.agent, emulator) as alone, \
            Agent(programs.agent, emulator, size=100_000, connections=1000) as crowded:
        alone.read("hot")
        connection = crowded.connect()
        crowded.read("hot", connection)
        start, payload, marks = crowded.rss(), 0, []
        for number, name in enumerate(names, 1):
            payload += len(crowded.read(name, connection))
            if number in (entries // 2, entries):
                marks.append((crowded.rss() - start) / payload)
        crowded.read("hot", connection)
        found = slices.run({"alone": alone, "crowded": crowded}, 10)
        table.ratio(f"one hot key among {entries:,} / alone", found["crowded"][0], found["alone"][0], at_least=0.95)
        linear = marks[1] / marks[0]
        table.add("memory an entry, all / half of the entries", linear, "×", "0.8–1.25", 0.8 <= linear <= 1.25)
        few, many = [], []
        for _ in range(slices.rounds):
            few.append(load(crowded.port, 64, slices.seconds))
            many.append(load(crowded.port, 800, slices.seconds))
        table.ratio("800 connections / 64 connections", many, few, at_least=0.85)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="target", help="cargo's target folder")
    parser.add_argument("--rounds", type=int, default=15, help="slices of each server")
    parser.add_argument("--seconds", type=int, default=2, help="length of a slice")
    parser.add_argument("--entries", type=int, default=99_000, help="entries beside the hot one")
    parser.add_argument("--only", help="hits, memory, start, miss or growth")
    parser.add_argument("--json", default="target/bench.json", help="where the figures go")
    parser.add_argument("--svg", help="where a chart of the rates goes")
    options = parser.parse_args()
    target = pathlib.Path(options.target)
    programs = argparse.Namespace(
        agent=target / "dist/alibabacloud-kms-agent",
        bare=target / "dist/bare-axum",
        emulator=target / "release/kms-emulator",
    )
    slices, table = Slices(options.rounds, options.seconds), Table()
    with Emulator(programs.emulator) as emulator:
        emulator.put(["hot"], VALUE)
        parts = {
            "hits": lambda: hits(table, programs, emulator, slices),
            "memory": lambda: memory(table, programs, emulator),
            "start": lambda: first_answers(table, programs, emulator, options.rounds),
            "miss": lambda: misses(table, programs, emulator, 100 * options.rounds),
            "growth": lambda: growth(table, programs, emulator, slices, options.entries),
        }
        for name, measure in parts.items():
            if options.only in (None, name):
                measure()
    if options.only is None:
        size = programs.agent.stat().st_size / 1e6
        table.add("binary, stripped", size, "MB", "≤ 8", size <= 8)
    machine = {"machine": platform.machine(), "kernel": platform.release(), "rounds": options.rounds}
    pathlib.Path(options.json).write_text(json.dumps({"machine": machine, "rows": table.rows}, indent=1) + "\n")
    if options.svg:
        pathlib.Path(options.svg).write_text(chart.draw(table.rows))
    return 0 if all(row["holds"] is not False for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
