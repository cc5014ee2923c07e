"""10,000 routes over 1,000 hosts in a real gateway: time until they serve, memory, and from an edit of a file to its effect."""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import http.client

from compare import free_port

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: backend}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bench}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, protocol: HTTP, port: %d}]
"""


def route(host, mark):
    """Ten rules of one host; each answers with a redirect that names the mark, so that no backend is needed."""
    rules = "".join(f"""
  - matches: [{{path: {{value: /service-{place}}}}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /{mark}}}, statusCode: 302}}""" for place in range(10))
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route-{host}}}
spec:
  parentRefs: [{{name: bench}}]
  hostnames: [host-{host}.example.com]
  rules:{rules}
"""


def replace(path, text):
    """As an editor does: the file is never half written."""
    with open(path + ".new~", "w") as file:
        file.write(text)
    os.rename(path + ".new~", path)


def location(port, host):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/service-9", headers={"Host": f"host-{host}.example.com"})
        return connection.getresponse().getheader("location") or ""
    except OSError:
        return ""
    finally:
        connection.close()


def await_mark(port, host, mark, what):
    began = time.monotonic()
    while time.monotonic() - began < 120:
        if location(port, host).endswith(f"/{mark}"):
            return time.monotonic() - began
        time.sleep(0.002)
    sys.exit(f"{what}: not served within two minutes")


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tidegate", required=True)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--edits", type=int, default=40)
    arguments = parser.parse_args()
    folder, port = tempfile.mkdtemp(prefix="tidegate-routes-"), free_port()
    replace(os.path.join(folder, "gateway.yaml"), SERVICE % port)
    for host in range(arguments.hosts):
        replace(os.path.join(folder, f"route-{host}.yaml"), route(host, "first"))
    command = [arguments.tidegate, "serve", "--manifests", folder, "--bind", "127.0.0.1", "--admin", "off", "--access-log", "off"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        started = await_mark(port, arguments.hosts - 1, "first", "start")
        memory = rss_mib(process.pid)
        taken = []
        for edit in range(arguments.edits):
            host = edit * 37 % arguments.hosts
            replace(os.path.join(folder, f"route-{host}.yaml"), route(host, f"edit-{edit}"))
            taken.append(await_mark(port, host, f"edit-{edit}", "edit"))
        taken.sort()
        print(f"{arguments.hosts * 10} routes over {arguments.hosts} hosts")
        print(f"  start to served: {started:.2f} s, RSS {memory:.0f} MiB, after {arguments.edits} edits {rss_mib(process.pid):.0f} MiB")
        print(f"  edit to served: median {statistics.median(taken) * 1000:.0f} ms, "
              f"p99 {taken[int(len(taken) * 0.99) - 1] * 1000:.0f} ms, most {taken[-1] * 1000:.0f} ms")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
