//! `proxy-body-size`, `limit-rps`, `limit-rpm`, `limit-burst-multiplier`, `limit-connections`.

use serde_json::{Value, json};

use super::reader::Reader;

/// ingress-nginx's own default of `proxy-body-size`.
const BODY: &str = "1m";
/// Its default of `limit-burst-multiplier`.
const BURST: u32 = 5;
/// The most that the filter rate-limit counts.
const MOST: u32 = 1_000_000;

/// What bounds requests.
#[derive(Debug)]
pub(super) struct Limits {
    /// The longest body; none for any.
    pub(super) body: Option<String>,
    /// Requests for each second, for each minute, and what may come at once for each of one.
    rates: Vec<(u32, &'static str)>,
    burst: u32,
    /// Requests of a client at a time.
    pub(super) connections: Option<u32>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Limits {
    let body = reader.text("proxy-body-size").unwrap_or(BODY);
    let unbounded = body
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .bytes()
        .all(|byte| byte == b'0');
    let mut rates = Vec::new();
    for (name, per) in [("limit-rps", "second"), ("limit-rpm", "minute")] {
        match reader.number(name) {
            None | Some(0) => {}
            Some(rate) if rate > MOST => {
                reader.wrong(name, &format!("{rate} is above {MOST}, which is the most that is counted; write less, or nothing"));
            }
            Some(rate) => rates.push((rate, per)),
        }
    }
    Limits {
        body: (!unbounded).then(|| body.to_owned()),
        rates,
        burst: reader.number("limit-burst-multiplier").unwrap_or(BURST),
        connections: reader.number("limit-connections").filter(|most| *most > 0),
    }
}

impl Limits {
    /// The filter rate-limit as nginx counts: a leaky bucket for each client, one for the Ingress called `name`, refused with 503.
    pub(super) fn rates(&self, name: &str) -> Option<Value> {
        if self.rates.is_empty() {
            return None;
        }
        let limits = self.rates.iter().map(|(rate, per)| {
            // The filter counts so many, beside the one that the rate allows, and forgets after a year.
            let year = if *per == "second" {
                31_536_000
            } else {
                525_600
            };
            let most = u64::from(MOST).min(u64::from(*rate) * year) - 1;
            let burst = (u64::from(*rate) * u64::from(self.burst)).min(most);
            json!({
                "requests": rate, "per": per, "burst": burst, "algorithm": "leaky-bucket",
                "key": [{"source": "ip", "ipv6Prefix": 128}],
            })
        });
        Some(json!({
            "name": name, "limits": limits.collect::<Vec<_>>(), "status": 503, "headers": false,
            "body": "Service Temporarily Unavailable\n",
        }))
    }
}
