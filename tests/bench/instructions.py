"""Counts the instructions of a hit, beside those of the bare server: the same at every run, on a busy machine too.

What the kernel does is not counted, and valgrind knows no instructions for SHA, which makes a hit look dearer than it
is. Compared is with the ratios in instructions.json; more than 5 % above them is a failure. See docs/performance.md.
"""

import argparse
import json
import pathlib
import re
import socket
import sys
import tempfile

from process import TOKEN, Agent, Bare, Emulator

FEW, MANY = 200, 2200
BOUND = 1.05
RECORD = pathlib.Path(__file__).with_suffix(".json")


def total(start, requests):
    """The instructions of a server's whole life with so many requests on one connection."""
    with tempfile.NamedTemporaryFile() as out:
        with start(["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out.name}"]) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                request = (
                    "GET /secretsmanager/get?secretId=hot HTTP/1.1\r\n"
                    f"Host: 127.0.0.1:{server.port}\r\nX-KMS-Token: {TOKEN}\r\n\r\n"
                ).encode()
                for _ in range(requests):
                    client.sendall(request)
                    assert client.recv(65536).startswith(b"HTTP/1.1 200"), "an answer in one piece"
        text = pathlib.Path(out.name).read_text()
    return int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])


def a_hit(start):
    return (total(start, MANY) - total(start, FEW)) / (MANY - FEW)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="target", help="cargo's target folder")
    parser.add_argument("--record", action="store_true", help="take what is measured for the figures to keep to")
    options = parser.parse_args()
    dist = pathlib.Path(options.target) / "dist"
    with Emulator(pathlib.Path(options.target) / "release/kms-emulator") as emulator:
        emulator.put(["hot"], "x" * 380)
        with Agent(dist / "alibabacloud-kms-agent", emulator) as agent:
            length = len(agent.read("hot"))
        bare = a_hit(lambda under: Bare(dist / "bare-axum", length, under=under))
        ratios = {}
        for backend in ("InMemory", "Persistent"):
            count = a_hit(
                lambda under: Agent(dist / "alibabacloud-kms-agent", emulator, backend=backend, under=under)
            )
            ratios[backend] = round(count / bare, 3)
            print(f"{backend} hit: {count:,.0f} instructions, {ratios[backend]:.3f} x those of bare axum ({bare:,.0f})")
    if options.record:
        RECORD.write_text(json.dumps(ratios, indent=1) + "\n")
        return 0
    recorded = json.loads(RECORD.read_text())
    worse = {name: was for name, was in recorded.items() if ratios[name] > BOUND * was}
    for name, was in worse.items():
        print(f"{name}: {ratios[name]:.3f} is more than 5 % above the recorded {was:.3f}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
