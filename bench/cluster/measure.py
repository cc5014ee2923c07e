"""What thousands of objects in a real API server cost the gateway, and how soon an edit serves. Called by bench/cluster/run."""

import argparse
import concurrent.futures
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

NAMESPACE = "bench"
CONTROLLER = "tidegate.dev/controller"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/bench/httproutes"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/bench/ingresses"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Api:
    """The API server through `kubectl proxy`, one connection for each thread."""

    def __init__(self, kubectl, kubeconfig):
        self.kubectl, self.kubeconfig = kubectl, kubeconfig
        self.process = subprocess.Popen(
            [kubectl, "--kubeconfig", kubeconfig, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.local = threading.local()

    def ask(self, method, path, body=None, kind="application/json"):
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"Content-Type": kind} if body is not None else {})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 300 and answer.status != 409:
            sys.exit(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content

    def token(self):
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, "create", "token", "tidegate", "-n", "tidegate-system"]
        return subprocess.run([*command, "--duration=2h"], check=True, capture_output=True, text=True).stdout.strip()

    def requests_of_the_gateway(self):
        """Requests that the API server has carried out for service accounts outside kube-system: those of the gateway alone."""
        text = self.ask("GET", "/metrics").decode()
        total = 0.0
        for line in text.splitlines():
            if line.startswith("apiserver_flowcontrol_dispatched_requests_total{") and 'flow_schema="service-accounts"' in line:
                total += float(line.rsplit(" ", 1)[1])
        return total


class Gateway:
    """The gateway's process, with rights of the plain manifests."""

    def __init__(self, tidegate, kubeconfig, ports, folder):
        self.ports = ports
        self.log = open(os.path.join(folder, "tidegate.log"), "a")
        environment = {**os.environ, "KUBECONFIG": kubeconfig, "POD_NAMESPACE": "tidegate-system", "RUST_LOG": "info"}
        command = [tidegate, "serve", "--kubernetes", "--bind", "127.0.0.1", "--http-port", str(ports["ingress"]),
                   "--https-port", str(ports["https"]), "--admin", f"127.0.0.1:{ports['admin']}", "--health", "off",
                   "--access-log", "off", "--publish-address", "203.0.113.1"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def page(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def await_ready(self, seconds=300):
        deadline = time.monotonic() + seconds
        while self.page("/readyz")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the gateway does not become ready; see {self.log.name}")
            time.sleep(0.02)

    def metric(self, name):
        found = re.search(rf"^{name} (\d+)", self.page("/metrics")[1], re.MULTILINE)
        return int(found.group(1)) if found else 0

    def memory_mib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.terminate()
        self.process.wait()


class Traffic:
    """Requests over one kept connection."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def get(self, host):
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            self.connection.request("GET", "/", headers={"Host": host})
            answer = self.connection.getresponse()
            answer.read()
            return answer.status, answer.headers
        except (OSError, http.client.HTTPException):
            self.connection = None
            return 0, {}


def backend():
    """A backend at an address that endpoints may have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def route(number, edit):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": f"r{number}"},
            "spec": {"parentRefs": [{"name": "web"}], "hostnames": [f"r{number}.example"], "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "filters": [{"type": "ResponseHeaderModifier",
                             "responseHeaderModifier": {"set": [{"name": "x-edit", "value": str(edit)}]}}],
                "backendRefs": [{"name": "one", "port": 80}]}]}}


def ingress(number):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": f"i{number}"},
            "spec": {"ingressClassName": "tidegate", "rules": [{"host": f"i{number}.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "one", "port": {"number": 80}}}}]}}]}}


def prepare(api, ports, address, port):
    api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    service = f"/api/v1/namespaces/{NAMESPACE}/services"
    api.ask("POST", service, {"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}})
    api.ask("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", {
        "metadata": {"name": "one", "labels": {"kubernetes.io/service-name": "one"}}, "addressType": "IPv4",
        "ports": [{"port": port}], "endpoints": [{"addresses": [address]}]})
    api.ask("POST", f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways", {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web"},
        "spec": {"gatewayClassName": "tidegate", "listeners": [{"name": "http", "port": ports["gateway"], "protocol": "HTTP"}]}})


def create(api, each):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        work = [pool.submit(api.ask, "POST", ROUTES, route(n, 0)) for n in range(each)]
        work += [pool.submit(api.ask, "POST", INGRESSES, ingress(n)) for n in range(each)]
        for done in concurrent.futures.as_completed(work):
            done.result()


def await_all(ports, each, seconds=600):
    """Asks for every host until each has answered 200."""
    deadline = time.monotonic() + seconds
    for kind, port in (("r", ports["gateway"]), ("i", ports["ingress"])):
        traffic = Traffic(port)
        # The newest first: they come last.
        for number in reversed(range(each)):
            while traffic.get(f"{kind}{number}.example")[0] != 200:
                if time.monotonic() > deadline:
                    sys.exit(f"{kind}{number}.example is not served")
                time.sleep(0.01)


def await_settled(gateway, seconds=900):
    """Until no status has been written for five seconds; when the last was, and how many."""
    deadline = time.monotonic() + seconds
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 5:
        if time.monotonic() > deadline:
            sys.exit("statuses are still being written")
        writes = gateway.metric("tidegate_status_writes_total")
        if writes != last:
            last, since = writes, time.monotonic()
        time.sleep(0.1)
    return since, last


def edits(api, ports, each, count):
    """Milliseconds from the API server's answer to the first answer of the gateway that shows the edit."""
    traffic, taken = Traffic(ports["gateway"]), []
    for edit in range(1, count + 1):
        number = (edit * 7919) % each
        api.ask("PATCH", f"{ROUTES}/r{number}", {"spec": route(number, edit)["spec"]}, "application/merge-patch+json")
        start = time.monotonic()
        while traffic.get(f"r{number}.example")[1].get("x-edit") != str(edit):
            if time.monotonic() - start > 30:
                sys.exit(f"edit {edit} is not served")
            time.sleep(0.002)
        taken.append((time.monotonic() - start) * 1000)
        # Edits of different seconds, not one burst.
        time.sleep(0.1)
    taken.sort()
    return {"median": taken[len(taken) // 2], "p99": taken[min(len(taken) - 1, int(len(taken) * 0.99))], "most": taken[-1]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidegate", required=True)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--each", type=int, default=5000, help="Ingresses, and as many HTTPRoutes")
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--idle", type=int, default=60, help="seconds")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where the 99th percentile of edits is above 500 ms")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="bench-cluster-")
    ports = {name: free_port() for name in ("gateway", "ingress", "https", "admin", "echo")}
    address = backend()
    echo = subprocess.Popen([arguments.tidegate, "echo", "--listen", f"{address}:{ports['echo']}"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    api = Api(arguments.kubectl, arguments.kubeconfig)
    figures, gateway = {"each": arguments.each}, None
    try:
        prepare(api, ports, address, ports["echo"])
        own = os.path.join(folder, "kubeconfig")
        with open(arguments.kubeconfig) as given, open(own, "w") as file:
            cluster = next(line for line in given if line.startswith("clusters:"))
            file.write(f"apiVersion: v1\nkind: Config\n{cluster}users: [{{name: u, user: {{token: {api.token()}}}}}]\n"
                       "contexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\n")
        gateway = Gateway(arguments.tidegate, own, ports, folder)
        gateway.await_ready()
        figures["empty MiB"] = gateway.memory_mib()

        start = time.monotonic()
        create(api, arguments.each)
        figures["creation s"] = time.monotonic() - start
        start = time.monotonic()
        await_all(ports, arguments.each)
        figures["all serve, after the last creation s"] = time.monotonic() - start
        settled, writes = await_settled(gateway)
        figures["all statuses written, after the last creation s"] = settled - start
        figures["status writes"] = writes
        figures["CPU until then s"] = gateway.cpu_seconds()

        gateway.end()
        start = time.monotonic()
        gateway = Gateway(arguments.tidegate, own, ports, folder)
        gateway.await_ready()
        figures["restart: ready s"] = time.monotonic() - start
        await_all(ports, arguments.each)
        figures["restart: all have answered s"] = time.monotonic() - start
        figures["restart: CPU s"] = gateway.cpu_seconds()
        await_settled(gateway)
        figures["restart: status writes"] = gateway.metric("tidegate_status_writes_total")
        figures["MiB"] = gateway.memory_mib()

        cpu, asked, start = gateway.cpu_seconds(), api.requests_of_the_gateway(), time.monotonic()
        time.sleep(arguments.idle)
        wall = time.monotonic() - start
        figures["idle: CPU of one core %"] = (gateway.cpu_seconds() - cpu) / wall * 100
        figures["idle: API requests a minute"] = (api.requests_of_the_gateway() - asked) / wall * 60

        cpu = gateway.cpu_seconds()
        figures["edit ms"] = edits(api, ports, arguments.each, arguments.edits)
        figures["CPU of an edit ms"] = (gateway.cpu_seconds() - cpu) / arguments.edits * 1000
        figures["MiB after the edits"] = gateway.memory_mib()
    finally:
        if gateway:
            gateway.end()
        echo.terminate()
        api.process.terminate()
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part:.0f}" for key, part in value.items())
        print(f"{name}: {round(value, 2) if isinstance(value, float) else value}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(figures, file, indent=1)
    if arguments.strict and figures["edit ms"]["p99"] > 500:
        sys.exit("an edit took longer than 500 ms at the 99th percentile")


if __name__ == "__main__":
    main()
