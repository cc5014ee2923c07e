"""The same job for three proxies: take a request on one port of the loopback, forward it to another, keep connections alive."""

import json
import os

BODY = "hello, world\n"


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def nginx(folder, name, http):
    scratch = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    config = write(folder, f"{name}.conf", f"""
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; {scratch} {http} }}
""")
    return ["nginx", "-p", folder, "-e", f"{folder}/{name}.err", "-c", config]


def backend(folder, port):
    return nginx(folder, "backend", f"""
server {{ listen 127.0.0.1:{port}; location / {{
  return 200 "{BODY.strip()}\\n"; add_header x-one 1; add_header x-two 2; }} }}""")


def nginx_proxy(folder, port, upstream):
    return nginx(folder, "proxy", f"""
upstream backend {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}""")


def envoy(folder, name, port, upstream, module=None):
    """Envoy at its defaults: routing, request id and statistics as it comes, no access log."""
    extension = "type.googleapis.com/envoy.extensions.filters"
    filters = [{"name": "router", "typed_config": {"@type": f"{extension}.http.router.v3.Router"}}]
    if module:
        filters.insert(0, {"name": "envoy.filters.http.wasm", "typed_config": {
            "@type": f"{extension}.http.wasm.v3.Wasm",
            "config": {"name": "bench", "vm_config": {
                "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}}}}})
    connections = {
        "@type": f"{extension}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]}]}}

    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    return write(folder, f"{name}.json", json.dumps({"static_resources": {
        "listeners": [{"name": "in", "address": address(port), "filter_chains": [{"filters": [
            {"name": "http", "typed_config": connections}]}]}],
        "clusters": [{"name": "backend", "type": "STATIC", "load_assignment": {"cluster_name": "backend", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]}}]}}))


def tidegate(folder, name, port, upstream, module=None):
    """A folder of manifests: Gateway, route, service, and the filter by ExtensionRef."""
    reference = {"type": "ExtensionRef", "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": "bench"}}
    gateway = "gateway.networking.k8s.io/v1"
    items = [
        {"apiVersion": gateway, "kind": "Gateway", "metadata": {"name": "bench"}, "spec": {
            "gatewayClassName": "tidegate", "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "backend", "labels": {"kubernetes.io/service-name": "backend"}},
         "ports": [{"port": upstream}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
        {"apiVersion": gateway, "kind": "HTTPRoute", "metadata": {"name": "bench"}, "spec": {
            "parentRefs": [{"name": "bench"}],
            "rules": [{"filters": [reference] if module else [], "backendRefs": [{"name": "backend", "port": 80}]}]}}]
    if module:
        items.append({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": "bench"},
                      "spec": {"module": {"file": module}}})
    manifests = os.path.join(folder, f"manifests-{name}")
    os.mkdir(manifests)
    write(manifests, "bench.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return manifests
