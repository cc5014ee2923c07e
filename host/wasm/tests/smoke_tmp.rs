use std::sync::Arc;
use tidegate_wasm::*;
#[test]
fn real() {
    let dir = std::env::var("SMOKE").unwrap();
    let engine = Engine::new().unwrap();
    for name in ["cors", "basic-auth", "rate-limit", "rewrite"] {
        let wasm = std::fs::read(format!("{dir}/{name}.wasm")).unwrap();
        let t = std::time::Instant::now();
        let module = engine.compile(&wasm).unwrap();
        println!(
            "{name} {} bytes, compile {:?} {:?}",
            wasm.len(),
            t.elapsed(),
            module
        );
        let shared = Shared::new();
        let vm = VmConfig {
            namespace: "a".into(),
            vm_id: String::new(),
            scope: "s".into(),
            vm_config: Default::default(),
            env: Default::default(),
            limits: Limits::default(),
        };
        let t = std::time::Instant::now();
        let mut v = Vm::start(&module, Arc::new(vm), shared.clone()).unwrap();
        println!("start {:?} mem {}", t.elapsed(), v.memory_bytes());
        let cfg: &str = match name {
            "cors" => r#"{"allowOrigins":["https://a.test"]}"#,
            "basic-auth" => r#"{"users":{}}"#,
            "rate-limit" => r#"{"requests": 1, "period":"1s"}"#,
            _ => r#"{}"#,
        };
        let p = PluginConfig {
            namespace: "a".into(),
            name: name.into(),
            root_id: String::new(),
            config: bytes::Bytes::from_static(cfg.as_bytes()),
            capabilities: Capabilities::ALL,
            clusters: Default::default(),
            headers_wait_for_body: false,
            buffered_body: 1 << 20,
        };
        match v.add_root(Arc::new(p)) {
            Err(e) => println!("configure: {e}"),
            Ok(root) => {
                for _ in 0..2 {
                    let s = v.create_stream(root).unwrap();
                    let mut head = http::HeaderMap::new();
                    head.insert("origin", "https://a.test".parse().unwrap());
                    let io = StreamIo::new(tidegate_model::RequestHead {
                        method: http::Method::GET,
                        scheme: http::uri::Scheme::HTTP,
                        authority: "x".parse().unwrap(),
                        path: "/p".parse().unwrap(),
                        headers: head,
                    });
                    v.attach(s, Box::new(io));
                    println!(
                        "{:?}",
                        v.call(
                            s,
                            Callback::RequestHeaders {
                                end_of_stream: true
                            }
                        )
                    );
                    println!("{:?}", v.effects().collect::<Vec<_>>());
                    v.io_mut(s).unwrap().response = Some(tidegate_model::ResponseHead {
                        status: http::StatusCode::OK,
                        headers: Default::default(),
                    });
                    println!(
                        "{:?}",
                        v.call(
                            s,
                            Callback::ResponseHeaders {
                                end_of_stream: true
                            }
                        )
                    );
                    println!("{:?}", v.io_mut(s).unwrap().response);
                    println!(
                        "{:?} {:?}",
                        v.call(s, Callback::Log),
                        v.call(s, Callback::Done)
                    );
                    println!("{:?}", v.delete_stream(s).map(|o| o.is_some()));
                }
                let t = std::time::Instant::now();
                for _ in 0..10000 {
                    let s = v.create_stream(root).unwrap();
                    let mut head = http::HeaderMap::new();
                    head.insert("origin", "https://a.test".parse().unwrap());
                    let io = StreamIo::new(tidegate_model::RequestHead {
                        method: http::Method::GET,
                        scheme: http::uri::Scheme::HTTP,
                        authority: "x".parse().unwrap(),
                        path: "/p".parse().unwrap(),
                        headers: head,
                    });
                    v.attach(s, Box::new(io));
                    v.call(
                        s,
                        Callback::RequestHeaders {
                            end_of_stream: true,
                        },
                    )
                    .unwrap();
                    v.effects().for_each(drop);
                    v.call(s, Callback::Log).unwrap();
                    v.call(s, Callback::Done).unwrap();
                    v.delete_stream(s).unwrap();
                }
                println!(
                    "cycle {:?}, cpu estimate {:?}, calls {}",
                    t.elapsed() / 10000,
                    v.cpu(),
                    v.calls()
                );
                println!("remove {:?}", v.remove_root(root));
            }
        }
    }
}
