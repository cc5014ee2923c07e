"""Interleaved rounds of load through nginx, Envoy and tidegate, and the CPU time each spends per request.

Every server is started here on a free loopback port and ended by its process id. The proxy under load runs on core 0, the load
and the backend on core 1. CPU per request is the only figure that compares on a shared machine: requests per second are bounded
by core 1.
"""

import argparse
import glob
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HEADERS = [f"X-Bench-{n}: {'a' * 12}" for n in range(8)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process, with its children, on one core."""

    def __init__(self, name, core, command, port, log):
        self.name, self.port, self.path = name, port, "/"
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=log, stderr=log, start_new_session=True
        )

    def await_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended with {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.path}", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{self.name} does not answer on port {self.port}")

    def pids(self):
        pids = [self.process.pid]
        for pid in pids:
            for children in glob.glob(f"/proc/{pid}/task/*/children"):
                with open(children) as file:
                    pids += [int(child) for child in file.read().split()]
        return pids

    def cpu_ns(self):
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
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def nginx(folder, name, port, body):
    return write(folder, f"{name}.conf", f"""
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; {body} }}
""")


def backend_config(folder, port):
    return nginx(folder, "backend", port, f"""
server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello, world\\n"; add_header x-one 1; add_header x-two 2; }} }}""")


def nginx_config(folder, port, backend):
    return nginx(folder, "proxy", port, f"""
upstream backend {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}
server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}""")


def envoy_config(folder, name, port, backend, module=None):
    filters = [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
    if module:
        filters.insert(0, {"name": "wasm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {"name": "bench", "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}}}}})
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]}]}}
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return write(folder, f"{name}.json", json.dumps({"static_resources": {
        "listeners": [{"name": "in", "address": address(port), "filter_chains": [{"filters": [
            {"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": "backend", "type": "STATIC", "load_assignment": {"cluster_name": "backend", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(backend)}}]}]}}]}}))


def tidegate_manifests(folder, port, backend, module=None):
    path = os.path.join(folder, f"manifests-{port}")
    os.mkdir(path)
    filters = [{"type": "ExtensionRef", "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": "bench"}}]
    gateway = "gateway.networking.k8s.io/v1"
    items = [
        {"apiVersion": gateway, "kind": "Gateway", "metadata": {"name": "bench"}, "spec": {
            "gatewayClassName": "tidegate", "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "backend", "labels": {"kubernetes.io/service-name": "backend"}},
         "ports": [{"port": backend}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
        {"apiVersion": gateway, "kind": "HTTPRoute", "metadata": {"name": "bench"}, "spec": {
            "parentRefs": [{"name": "bench"}],
            "rules": [{"filters": filters if module else [], "backendRefs": [{"name": "backend", "port": 80}]}]}}]
    if module:
        items.append({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": "bench"},
                      "spec": {"module": {"file": module}}})
    write(path, "bench.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


def start_all(arguments, folder, log):
    module = os.path.abspath(arguments.module)
    ports = {name: free_port() for name in ["backend", "nginx", "tidegate", "tidegate+log", "tidegate+filter", "envoy", "envoy+filter"]}
    backend = ports["backend"]
    first = Server("backend", 1, ["nginx", "-p", folder, "-c", backend_config(folder, backend)], backend, log)
    first.await_ready()

    def tidegate(name, module=None, access_log="off"):
        manifests = tidegate_manifests(folder, ports[name], backend, module)
        return Server(name, 0, [arguments.tidegate, "serve", "--manifests", manifests, "--bind", "127.0.0.1", "--workers", "1",
                                "--access-log", access_log, "--admin", "off"], ports[name], log)

    def envoy(name, base, module=None):
        config = envoy_config(folder, name, ports[name], backend, module)
        return Server(name, 0, [arguments.envoy, "-c", config, "--concurrency", "1", "--base-id", str(base), "-l", "error"],
                      ports[name], log)

    base = os.getpid() % 10000 * 2
    proxies = [
        Server("nginx", 0, ["nginx", "-p", folder, "-c", nginx_config(folder, ports["nginx"], backend)], ports["nginx"], log),
        tidegate("tidegate"), tidegate("tidegate+log", access_log="/dev/null"), tidegate("tidegate+filter", module),
        envoy("envoy", base), envoy("envoy+filter", base + 1, module)]
    for proxy in proxies:
        proxy.await_ready()
    return first, proxies


def check_filter(proxies):
    for proxy in proxies:
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/") as answer:
            wanted = "yes" if proxy.name.endswith("+filter") else None
            if answer.headers.get("x-bench") != wanted:
                sys.exit(f"{proxy.name}: x-bench is {answer.headers.get('x-bench')}, expected {wanted}")



def measure(proxy, connections, seconds):
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for header in HEADERS:
        command += ["-H", header]
    before = proxy.cpu_ns()
    out = subprocess.run([*command, f"http://127.0.0.1:{proxy.port}/"], capture_output=True, text=True, check=True).stdout
    spent = proxy.cpu_ns() - before
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{proxy.name}: failed requests\n{out}")
    return {"cpu": spent / requests / 1000, "rate": requests / seconds, "p99": re.search(r"99%\s+(\S+)", out).group(1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tidegate", required=True)
    parser.add_argument("--envoy", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--profile", default="dist", help="read by bench/run")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tidegate-bench-")
    servers = []
    with open(os.path.join(folder, "servers.log"), "w") as log:
        try:
            backend, proxies = start_all(arguments, folder, log)
            servers = [backend, *proxies]
            check_filter(proxies)
            for proxy in proxies:
                measure(proxy, arguments.connections, 1)
            report(arguments, proxies)
        finally:
            for server in servers:
                server.end()
    shutil.rmtree(folder)


def report(arguments, proxies):
    rounds = {proxy.name: [] for proxy in proxies}
    load = os.getloadavg()[0]
    for _ in range(arguments.rounds):
        for proxy in proxies:
            rounds[proxy.name].append(measure(proxy, arguments.connections, arguments.seconds))
    print(f"{arguments.rounds} rounds of {arguments.seconds} s, {arguments.connections} connections, load before {load:.1f}")
    print(f"{'':16} {'CPU us/request':>24} {'requests/s':>11} {'p99':>9} {'RSS MiB':>8}")
    print(f"{'':16} {'min':>12}{'median':>12} {'median':>11} {'last':>9}")
    median = {}
    for proxy in proxies:
        cpu = [one["cpu"] for one in rounds[proxy.name]]
        median[proxy.name] = statistics.median(cpu)
        rate = statistics.median(one["rate"] for one in rounds[proxy.name])
        print(f"{proxy.name:16} {min(cpu):12.1f}{median[proxy.name]:12.1f} {rate:11.0f} {rounds[proxy.name][-1]['p99']:>9} {proxy.rss_mib():8.0f}")
    paired = lambda a, b: statistics.median(x["cpu"] / y["cpu"] for x, y in zip(rounds[a], rounds[b]))
    print("\nratios, median of the rounds' own")
    for a, b, goal in [("tidegate", "nginx", "at most 1.3"), ("tidegate+filter", "tidegate", "at most 1.15"),
                       ("tidegate+log", "tidegate", ""), ("envoy", "tidegate", "at least 3"),
                       ("envoy+filter", "tidegate+filter", "at least 3"), ("envoy+filter", "envoy", "")]:
        print(f"  {a} / {b}: {paired(a, b):.2f} {'(goal: ' + goal + ')' if goal else ''}")


if __name__ == "__main__":
    main()
