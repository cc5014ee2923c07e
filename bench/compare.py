"""Interleaved rounds of load through nginx, Envoy and tidegate, and the CPU time that each spends on a request.

Every server is started here on a free loopback port and ended by its process id. Proxies run on core 0, load and backend on
core 1. CPU per request, and its ratio within one run, is what compares on a shared machine: requests per second are bounded by
core 1.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import configurations
from processes import Machine, Server, await_quiet, free_port

PROXIES, LOAD = 0, 1
HEADERS = [f"X-Bench-{n}: {'a' * 12}" for n in range(8)]
# What is compared, and the goal for it: at most so much (<=) or at least (>=).
RATIOS = [
    ("tidegate", "nginx", "<=", 1.3),
    ("tidegate+filter", "tidegate", "<=", 1.15),
    ("tidegate+log", "tidegate", None, None),
    ("envoy", "tidegate", ">=", 3.0),
    ("envoy+filter", "tidegate+filter", ">=", 3.0),
    ("envoy+filter", "envoy", None, None),
    ("tidegate+proxy-wasm", "tidegate", None, None),
    ("envoy+proxy-wasm", "tidegate+proxy-wasm", None, None),
    ("envoy+proxy-wasm", "envoy", None, None),
    ("envoy", "nginx", None, None),
]


def start_all(arguments, folder, stack):
    """The backend and the proxies under comparison, all of them ready and answering alike."""
    def start(name, core, command, port):
        server = Server(name, core, command, port, folder)
        stack.callback(server.end)
        return server

    upstream = free_port()
    module, proxy_wasm = os.path.abspath(arguments.module), os.path.abspath(arguments.proxy_wasm_module)
    backend = start("backend", LOAD, configurations.backend(folder, upstream), upstream)
    backend.await_ready()
    base_id = os.getpid() % 10000 * 3

    def nginx(name):
        port = free_port()
        return start(name, PROXIES, configurations.nginx_proxy(folder, port, upstream), port)

    def tidegate(name, binary, wasm=None, log="off"):
        port = free_port()
        manifests = configurations.tidegate(folder, name, port, upstream, wasm)
        return start(name, PROXIES, [binary, "serve", "--manifests", manifests, "--bind", "127.0.0.1", "--workers", "1",
                                     "--access-log", log, "--admin", "off"], port)

    def envoy(name, number, wasm=None):
        port = free_port()
        config = configurations.envoy(folder, name, port, upstream, wasm)
        return start(name, PROXIES, [arguments.envoy, "-c", config, "--concurrency", "1", "--base-id", str(base_id + number),
                                     "-l", "error"], port)

    ours = arguments.tidegate
    known = {
        "nginx": nginx,
        "tidegate": lambda name: tidegate(name, ours),
        "tidegate+log": lambda name: tidegate(name, ours, log="/dev/null"),
        "tidegate+filter": lambda name: tidegate(name, ours, module),
        "tidegate+proxy-wasm": lambda name: tidegate(name, ours, proxy_wasm),
        "envoy": lambda name: envoy(name, 0),
        "envoy+filter": lambda name: envoy(name, 1, module),
        "envoy+proxy-wasm": lambda name: envoy(name, 2, proxy_wasm),
    }
    for label, binary in arguments.other:
        known[label] = lambda name, binary=binary: tidegate(name, binary)
        known[f"{label}+filter"] = lambda name, binary=binary: tidegate(name, binary, module)
    wanted = arguments.only or list(known)
    if unknown := set(wanted) - set(known):
        sys.exit(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(known)}")
    proxies = [make(name) for name, make in known.items() if name in wanted]
    for proxy in proxies:
        proxy.await_ready()
        check(proxy)
    return backend, proxies


def check(proxy):
    """That the answer is the backend's, and that the filter runs where it is meant to and nowhere else."""
    status, headers, body = proxy.get()
    expected = "yes" if proxy.name.endswith(("+filter", "+proxy-wasm")) else None
    answer = (status, body.decode(), headers.get("x-two"), headers.get("x-seen"))
    if answer != (200, configurations.BODY, "2", expected):
        sys.exit(f"{proxy.name}: status, body, x-two, x-seen are {answer}")


def measure(backend, proxy, connections, seconds):
    """One round."""
    command = ["taskset", "-c", str(LOAD), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for header in HEADERS:
        command += ["-H", header]

    def own():
        wrk = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (wrk.ru_utime + wrk.ru_stime) + backend.cpu_ns() / 1e9

    machine, proxy_before, own_before = Machine(), proxy.cpu_ns(), own()
    out = subprocess.run([*command, f"http://127.0.0.1:{proxy.port}/"], capture_output=True, text=True, check=True,
                         timeout=seconds + 30).stdout
    spent = (proxy.cpu_ns() - proxy_before) / 1e9
    wall, busy, stolen = Machine().since(machine)
    load = own() - own_before
    if "Non-2xx" in out or "Socket errors" in out:
        proxy.fail(f"failed requests:\n{out}\n")
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    return {
        "cpu_us": spent / requests * 1e6,
        "rate": requests / wall,
        "p50_ms": latency(out, 50),
        "p99_ms": latency(out, 99),
        "core": spent / wall,
        "others": max(0.0, (busy["cpu"] - spent - load) / wall),
        "others_core0": max(0.0, (busy[f"cpu{PROXIES}"] - spent) / wall),
        "stolen": stolen / wall,
    }


def latency(out, percentile):
    value, unit = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", out).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def compare(arguments, backend, proxies, connections):
    """All rounds with so many connections, and their report."""
    rounds = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        measure(backend, proxy, connections, 1)
    load = os.getloadavg()[0]
    for _ in range(arguments.rounds):
        for proxy in proxies:
            rounds[proxy.name].append(measure(backend, proxy, connections, arguments.seconds))
    print(f"\n{connections} connections: {arguments.rounds} interleaved rounds of {arguments.seconds} s, "
          f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    table(rounds, proxies)
    return rounds, ratios(rounds)


def table(rounds, proxies):
    print(f"  {'':18}|{'CPU us/request':^16}|{'requests/s':^12}|{'p50 ms':^8}|{'p99 ms':^8}|{'RSS':^7}|{'core 0':^8}|{'others, cores':^17}")
    print(f"  {'':18}|{'min':>7} {'median':>7} |{'median':^12}|{'median':^8}|{'median':^8}|{'MiB':^7}|{'used':^8}|{'median':>8} {'max':>7}")
    for proxy in proxies:
        def values(key, name=proxy.name):
            return [one[key] for one in rounds[name]]
        cpu, others = values("cpu_us"), values("others")
        middle = {key: statistics.median(values(key)) for key in ["rate", "p50_ms", "p99_ms", "core"]}
        print(f"  {proxy.name:18}|{min(cpu):7.1f} {statistics.median(cpu):7.1f} |{middle['rate']:10.0f}  |{middle['p50_ms']:7.2f} |"
              f"{middle['p99_ms']:7.2f} |{proxy.rss_mib():6.0f} |{middle['core']:7.0%} |{statistics.median(others):8.2f} {max(others):7.2f}")
    every = [one for name in rounds for one in rounds[name]]
    print(f"  others on the proxies' core: median {statistics.median(one['others_core0'] for one in every):.2f}, "
          f"max {max(one['others_core0'] for one in every):.2f}; taken by the hypervisor: max {max(one['stolen'] for one in every):.2f} cores")


def ratios(rounds):
    """Prints them; returns each with whether its goal is met."""
    found = []
    print("  ratio of CPU per request" + " " * 16 + "of minima   median of the rounds' own (quartiles)")
    others = [name for name in rounds if name.split("+")[0] not in {"nginx", "tidegate", "envoy"}]
    extra = [(name, "tidegate+filter" if name.endswith("+filter") else "tidegate", None, None) for name in others]
    for a, b, sense, goal in RATIOS + extra:
        if a not in rounds or b not in rounds:
            continue
        own = sorted(x["cpu_us"] / y["cpu_us"] for x, y in zip(rounds[a], rounds[b]))
        of_minima = min(x["cpu_us"] for x in rounds[a]) / min(y["cpu_us"] for y in rounds[b])
        middle = statistics.median(own)
        low, _, high = statistics.quantiles(own, n=4) if len(own) > 1 else (middle, middle, middle)
        met = None if goal is None else middle <= goal if sense == "<=" else middle >= goal
        verdict = "" if met is None else f"   goal {'at most' if sense == '<=' else 'at least'} {goal:g}: {'met' if met else 'MISSED'}"
        print(f"    {a + ' / ' + b:36} {of_minima:9.2f}   {middle:9.2f} ({low:.2f} to {high:.2f}){verdict}")
        found.append({"a": a, "b": b, "of_minima": of_minima, "median": middle, "goal": goal, "met": met})
    return found


def arguments_of(command_line):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, metavar="BINARY")
    parser.add_argument("--envoy", required=True, metavar="BINARY")
    parser.add_argument("--module", required=True, metavar="WASM", help="the filter, for tidegate and for Envoy")
    parser.add_argument("--proxy-wasm-module", required=True, metavar="WASM", help="the same with the crate proxy-wasm")
    parser.add_argument("--other", action="append", default=[], metavar="LABEL=BINARY", type=labelled,
                        help="one more build of tidegate in the same rounds, to compare before and after; repeatable")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,NAME", help="leave out the others")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3, help="of each proxy in each round")
    parser.add_argument("--connections", type=lambda text: [int(one) for one in text.split(",")], default=[32, 64], metavar="N,N")
    parser.add_argument("--await-quiet", type=int, default=0, metavar="SECONDS", help="wait so long for others to be quiet")
    parser.add_argument("--json", metavar="FILE", help="every round, for other programs")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    return parser.parse_args(command_line)


def labelled(text):
    label, _, binary = text.partition("=")
    if not label or not binary:
        raise argparse.ArgumentTypeError("expected LABEL=BINARY")
    return label, binary


def check_place(arguments):
    """That everything needed is here, before anything is started."""
    if not {PROXIES, LOAD} <= os.sched_getaffinity(0):
        sys.exit(f"cores {PROXIES} and {LOAD} are needed; this process may use {sorted(os.sched_getaffinity(0))}")
    for command in ["nginx", "wrk", "taskset"]:
        if not shutil.which(command):
            sys.exit(f"{command} is missing; bench/run installs it")
    for path in [arguments.tidegate, arguments.envoy, arguments.module, arguments.proxy_wasm_module, *(binary for _, binary in arguments.other)]:
        if not os.path.isfile(path):
            sys.exit(f"{path} is missing; bench/run builds or installs it")


def describe(arguments):
    def said(*command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return " ".join((done.stdout + done.stderr).split())
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*:\s*(.*)", file.read())
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores ({cpu.group(1) if cpu else 'unknown'}), Linux {os.uname().release}")
    print(f"{said(arguments.tidegate, '--version')} ({arguments.tidegate}); {said('nginx', '-v')}; "
          f"Envoy {said(arguments.envoy, '--version').split('/')[-4]}")


def main():
    arguments = arguments_of(None)
    check_place(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    results = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-"))
        # nginx gives up root; its worker must still reach its files.
        os.chmod(folder, 0o755)
        describe(arguments)
        backend, proxies = start_all(arguments, folder, stack)
        await_quiet(arguments.await_quiet)
        for connections in arguments.connections:
            rounds, found = compare(arguments, backend, proxies, connections)
            results[connections] = {"rounds": rounds, "ratios": found}
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
    missed = any(ratio["met"] is False for result in results.values() for ratio in result["ratios"])
    sys.exit(1 if missed and arguments.strict else 0)


if __name__ == "__main__":
    main()
