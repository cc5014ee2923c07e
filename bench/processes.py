"""Servers on cores of their own, what they cost, and what everybody else on the machine did meanwhile."""

import glob
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process with its children, pinned to one core. What it prints goes to a file of its own."""

    def __init__(self, name, core, command, port, folder):
        self.name, self.port = name, port
        self.log = os.path.join(folder, f"{name}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], stdout=log, stderr=log, start_new_session=True
            )

    def await_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                if self.get()[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.fail(f"does not answer with 200 on port {self.port} after {seconds} s")

    def get(self):
        """Status, headers and body of one GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def check_alive(self):
        if self.process.poll() is not None:
            self.fail(f"ended with {self.process.returncode}")

    def fail(self, why):
        with open(self.log) as file:
            said = file.read()[-2000:]
        sys.exit(f"{self.name} {why}; it said:\n{said}")

    def pids(self):
        pids = [self.process.pid]
        for pid in pids:
            for children in glob.glob(f"/proc/{pid}/task/*/children"):
                with open(children) as file:
                    pids += [int(child) for child in file.read().split()]
        return pids

    def cpu_ns(self):
        """Time on a core of all threads, as the scheduler counts it, user and kernel."""
        self.check_alive()
        total = 0
        for pid in self.pids():
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                with open(path) as file:
                    total += int(file.read().split()[0])
        return total

    def rss_mib(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as file:
                total += int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
        return total / 1024

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Machine:
    """A point in time of /proc/stat: seconds that each core was busy, or taken away by the hypervisor."""

    def __init__(self):
        self.at = time.monotonic()
        self.busy, self.stolen = {}, 0.0
        tick = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat") as file:
            for name, *fields in (line.split() for line in file):
                if not name.startswith("cpu"):
                    continue
                user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) / tick for field in fields[:8])
                self.busy[name] = user + nice + system + irq + softirq
                if name == "cpu":
                    self.stolen = steal

    def since(self, before):
        """Wall seconds, busy seconds by core (`cpu` is the sum) and stolen seconds since then."""
        busy = {name: seconds - before.busy.get(name, 0.0) for name, seconds in self.busy.items()}
        return self.at - before.at, busy, self.stolen - before.stolen


def await_quiet(patience, cores=0.15):
    """Waits until all processes together use less than `cores` for five seconds, at most `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = Machine()
        time.sleep(5)
        wall, busy, _ = Machine().since(before)
        if busy["cpu"] / wall < cores:
            return
    if patience:
        print(f"not quiet within {patience} s; the figures say how much others used", file=sys.stderr)
