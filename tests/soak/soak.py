"""soak.py AGENT EMULATOR SECONDS: see run."""

import collections
import http.client
import itertools
import json
import pathlib
import random
import socket
import sys
import tempfile
import threading
import time

from agent import Agent, Emulator

SECRETS = 200
# Part of the whole time. The resources of the idle agent after it are the baseline.
WARM_UP = 0.25
# Allowed growth over the baseline. Threads that read files come and go.
MORE_DESCRIPTORS, MORE_THREADS, MORE_BYTES = 2, 2, 6 * 1024 * 1024
# Memory limit at any time, as of a usual sidecar.
MOST_BYTES = 64 * 1024 * 1024
# Time after which idle resources are released.
REST = 20
FAULTS = [
    {"kind": "cut"},
    {"kind": "cut_mid_body"},
    {"kind": "hang"},
    {"kind": "garbage"},
    {"kind": "throttle"},
    {"kind": "oversize"},
    {"kind": "latency", "latency_ms": 300},
    {"kind": "status", "status": 503, "code": "ServiceUnavailableTemporary"},
    {"kind": "status", "status": 404, "code": "InvalidAccessKeyId.NotFound"},
]
# Statuses that readers may get meanwhile; 403: the token has just changed.
EXPECTED = {200, 403, 404, 429, 500, 502, 503, 504}


def name(number):
    return f"app/{number}"


def value(number, version):
    return f"{name(number)} {version} " + "x" * (100 + 37 * number)


class Load:
    """Readers of one agent, polite and impolite, until `stop`."""

    def __init__(self, agent):
        self.agent = agent
        self.stop = threading.Event()
        self.results = collections.Counter()
        self.wrong = []
        acts = [self.read_on, self.read_on, self.come_and_go, self.misbehave]
        self.threads = [threading.Thread(target=self.run, args=[act]) for act in acts]
        for thread in self.threads:
            thread.start()

    def run(self, act):
        dice = random.Random()
        while not self.stop.is_set() and not self.wrong:
            try:
                act(dice)
            except Exception as error:  # pylint: disable=broad-except
                self.wrong.append(f"{act.__name__}: {error!r}")

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong

    def ask(self, connection, dice):
        # A few secrets get most reads, as in production.
        number = min(int(dice.expovariate(1 / 30)), SECRETS - 1)
        chance = dice.random()
        query = name(number)
        if chance < 0.02:
            query += "&refreshNow=true"
        elif chance < 0.04:
            query = f"missing/{number}"
        connection.request("GET", f"/secretsmanager/get?secretId={query}", headers={"X-KMS-Token": self.agent.token()})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        kind = answer.headers.get("Cache-Status", "").removeprefix("kms-agent; ").split(";")[0]
        if "; ttl=-" in answer.headers.get("Cache-Status", ""):
            kind = "stale"
        self.results[f"{answer.status} {kind or body['Code']}"] += 1
        if answer.status not in EXPECTED:
            raise ValueError(f"{answer.status} {body}")
        if answer.status == 200 and not body["SecretData"].startswith(f"{name(number)} "):
            raise ValueError(f"another secret than {name(number)}")
        return answer.headers.get("Connection") != "close"

    def read_on(self, dice):
        connection = self.connect()
        for _ in range(500):
            if self.stop.is_set() or not self.ask(connection, dice):
                break
        connection.close()

    def come_and_go(self, dice):
        connection = self.connect()
        self.ask(connection, dice)
        connection.close()
        for path in ["/readyz", "/metrics", "/ping"]:
            connection = self.connect()
            connection.request("GET", path)
            assert connection.getresponse().status in (200, 503)
            connection.close()

    def misbehave(self, dice):
        with socket.create_connection(("127.0.0.1", self.agent.port), 30) as stream:
            stream.sendall(dice.choice([b"", b"GET /v1/", b"\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]))
        self.results["cut"] += 1
        time.sleep(0.01)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=30)


def live(agents, emulator, seconds, turns):
    """Load, and everything that happens to an agent in its life, for so long."""
    loads = [Load(agent) for agent in agents]
    until = time.monotonic() + seconds
    while time.monotonic() < until and not any(load.wrong for load in loads):
        turn = next(turns)
        emulator.order(fault=FAULTS[turn % len(FAULTS)])
        time.sleep(1.5)
        emulator.order(clear_faults=True)
        for number in random.sample(range(SECRETS), 20):
            emulator.order(put_secret={"name": name(number), "value": value(number, turn)})
        for agent in agents:
            if turn % 2:
                agent.reload(turn)
            if turn % 3 == 0:
                agent.renew_token()
            if turn % 5 == 0:
                (agent.folder / "logs/kms-agent.log").unlink(missing_ok=True)
        time.sleep(2)
    for load in loads:
        load.end()
    return [load.results for load in loads]


def rest(agents):
    """What each agent holds at least, once nobody asks any more."""
    least = [agent.measure() for agent in agents]
    for _ in range(REST):
        time.sleep(1)
        least = [tuple(map(min, known, agent.measure())) for known, agent in zip(least, agents)]
    return least


def mebibytes(count):
    return f"{count / 1024 / 1024:.1f} MiB"


def main(binary, emulator_binary, seconds):
    seconds = float(seconds)
    turns = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder, Emulator(emulator_binary) as emulator:
        for number in range(SECRETS):
            emulator.order(put_secret={"name": name(number), "value": value(number, 0)})
        folders = [pathlib.Path(folder, backend) for backend in ("InMemory", "Persistent")]
        for each in folders:
            each.mkdir()
        with Agent(binary, "InMemory", emulator, folders[0]) as one, Agent(binary, "Persistent", emulator, folders[1]) as other:
            agents = [one, other]
            live(agents, emulator, seconds * WARM_UP, turns)
            before = rest(agents)
            results = live(agents, emulator, seconds * (1 - WARM_UP), turns)
            failures = []
            for agent, warm, cold, result in zip(agents, before, rest(agents), results):
                failures += judge(agent, warm, cold, result)
            sys.exit("\n".join(failures) if failures else 0)


def judge(agent, warm, cold, results):
    """Prints what one agent came to; returns what is wrong with it."""
    peak = agent.peak()
    code, took = agent.stop()
    print(f"  {agent.backend}: {sum(results.values())} requests: " + ", ".join(f"{count} {what}" for what, count in results.most_common()))
    print(f"    descriptors {warm[0]} → {cold[0]}, threads {warm[1]} → {cold[1]}, "
          f"resident {mebibytes(warm[2])} → {mebibytes(cold[2])}, peak {mebibytes(peak)}, ended in {took:.1f} s")
    logs = [path.read_text() for path in (agent.folder / "logs").iterdir()]
    wrong = {
        "descriptors grew": cold[0] > warm[0] + MORE_DESCRIPTORS,
        "threads grew": cold[1] > warm[1] + MORE_THREADS,
        "memory grew": cold[2] > warm[2] + MORE_BYTES,
        "it took more memory than it may": peak > MOST_BYTES,
        f"it ended with {code}": code != 0,
        "there are too many log files": len(logs) > 3,
        "something panicked": any("panicked" in text for text in [*logs, *agent.said]),
        "nothing was answered from the cache": not results["200 hit"],
        "nothing stale was answered": not results["200 stale"],
    }
    return [f"{agent.backend}: {what}" for what, so in wrong.items() if so]


main(*sys.argv[1:])
