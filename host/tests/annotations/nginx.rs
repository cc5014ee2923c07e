//! A real nginx with the lines of the cases.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidegate_testing::{Certificate, Port, Wire, eventually};

use super::case::Case;
use super::send::Upstreams;

/// A running nginx. It is killed when it is dropped.
pub(super) struct Nginx {
    pub(super) http: Port,
    pub(super) https: Port,
    child: Child,
    _folder: TempDir,
}

impl Nginx {
    pub(super) async fn start(
        cases: &[Case],
        certificate: &Certificate,
        upstreams: &Upstreams,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let (http, https) = (Port::reserve(), Port::reserve());
        write("tls.crt", &certificate.chain);
        write("tls.key", &certificate.key);
        let configuration = configuration(cases, (http.number(), https.number()), upstreams);
        write("nginx.conf", &configuration);
        let prefix = folder.path().to_str().unwrap();
        let child = Command::new("nginx")
            .args(["-p", prefix, "-c", "nginx.conf", "-e", "stderr"])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx is installed: apt-get install nginx-light");
        let mut nginx = Self {
            http,
            https,
            child,
            _folder: folder,
        };
        eventually!(
            {
                let ended = nginx.child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "nginx has ended: {ended:?}\n{configuration}"
                );
                Wire::try_connect(nginx.http.address()).await.is_ok()
            },
            "nginx serves"
        );
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(cases: &[Case], (http, https): (u16, u16), upstreams: &Upstreams) -> String {
    // As ingress-nginx writes it, as far as it shows; one process, so that ending it ends all of it.
    let mut text = String::from(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {}\nhttp {\n  access_log off;\n  client_body_temp_path body;\n  \
         proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
         proxy_http_version 1.1;\n  proxy_set_header Host $http_host;\n  limit_req_status 503;\n  limit_conn_status 503;\n  \
         server_names_hash_bucket_size 256;\n  absolute_redirect on;\n  port_in_redirect off;\n  ssl_certificate tls.crt;\n  ssl_certificate_key tls.key;\n",
    );
    // Writing to a String cannot fail.
    for name in ["up", "other", "auth", "secure"] {
        let _ = writeln!(
            text,
            "  upstream {name} {{ server {}; }}",
            upstreams.address(name)
        );
    }
    for case in cases {
        if let Some(lines) = &case.nginx_http {
            let _ = writeln!(text, "{lines}");
        }
        let host = format!("{}.test", case.domain);
        let lines = case.nginx.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "  server {{\n    listen 127.0.0.1:{http};\n    listen 127.0.0.1:{https} ssl;\n    server_name {host} *.{host};\n{lines}\n  }}"
        );
    }
    text.push_str("}\n");
    text
}
