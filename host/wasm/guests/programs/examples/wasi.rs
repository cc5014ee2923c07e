//! What std does through WASI: environment, arguments, clocks, random numbers, output.
#![cfg(target_arch = "wasm32")]

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    println!("to standard output");
    eprintln!("to standard error");
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let team = std::env::var("TEAM").unwrap_or_default();
        let vars = std::env::vars().count();
        let arguments = std::env::args().count();
        let began = Instant::now();
        let map: HashMap<u32, u32> = (0..10).map(|n| (n, n)).collect();
        let file = std::fs::read("/etc/passwd").is_err();
        let said = format!(
            "{team} {vars} {arguments} {} {} {file}",
            SystemTime::now() > SystemTime::UNIX_EPOCH,
            began.elapsed().as_secs() < 60 && map.len() == 10,
        );
        self.set_http_request_header("x-said", Some(&said));
        Action::Continue
    }
}
