//! What arguments point to: names and values that mean something to the host, and damaged ones.

use arbitrary::Unstructured;

use super::guest::DATA;
use crate::limits::CLUSTER;

/// Where results go.
const SLOTS: [u32; 3] = [16, 24, 32];
/// Where tokens go, and where calls that need one find it.
const GRPC: [u32; 2] = [40, 48];
const QUEUES: [u32; 1] = [56];
const METRICS: [u32; 2] = [64, 72];

const NAMES: [&[u8]; 22] = [
    b":path",
    b":method",
    b":authority",
    b":scheme",
    b":status",
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"te",
    b"cookie",
    b"set-cookie",
    b"x-a",
    b"X-Upper",
    b"",
    b":",
    b"a b",
    b"x\r\ny",
    b"\xff",
    b"grpc-status",
    b"upgrade",
    b"trace-bin",
];
/// Services and methods of gRPC.
const RPC: [&[u8]; 5] = [b"a.B", b"Do", b"x_1", b"", b"a/b"];
const VALUES: [&[u8]; 18] = [
    b"",
    b"/",
    b"/p?q=1",
    b"GET",
    b"CONNECT",
    b"http",
    b"https",
    b"a.test",
    b"a.test:80",
    b"200",
    b"99",
    b"1000",
    b"chunked",
    b"a\r\nb: c",
    b"\0",
    b"\xff\xfe",
    b"x y",
    b"[::1]:1",
];
const PATHS: [&[u8]; 30] = [
    b"request",
    b"request\0path",
    b"request\0url_path",
    b"request\0headers",
    b"request\0headers\0cookie",
    b"request\0query",
    b"request\0time",
    b"request\0size",
    b"response\0code",
    b"response\0headers\0server",
    b"response\0trailers",
    b"response\0flags",
    b"connection\0mtls",
    b"connection\0id",
    b"source\0address",
    b"upstream\0address",
    b"xds\0cluster_name",
    b"plugin_name",
    b"plugin_root_id",
    b"metadata\0filter_metadata",
    b"filter_state",
    b"filter_state\0wasm.own",
    b"own",
    b"cluster_name",
    b"route_name",
    b"listener_direction",
    b"\0",
    b"\0\0\0",
    b"",
    b"request\0\xff",
];
const FOREIGN: [&[u8]; 12] = [
    b"clear_route_cache",
    b"declare_property",
    b"set_envoy_filter_state",
    b"compress",
    b"uncompress",
    b"sign",
    b"verify_signature",
    b"expr_create",
    b"expr_evaluate",
    b"expr_delete",
    b"",
    b"none",
];
const EXPRESSIONS: [&[u8]; 6] = [
    b"request.path == '/p'",
    b"request.headers['x'] in ['a']",
    b"response.code >= 500 && true",
    b"((((",
    b"1/0 == 2",
    b"size(request.headers)",
];
/// `GrpcService`s: one with the cluster, one with authority, one that is cut short.
const SERVICES: [&[u8]; 4] = [
    b"\x0a\x05\x0a\x03idp",
    b"\x0a\x08\x0a\x03idp\x12\x01a",
    b"\x0a\x05\x0a",
    b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];

/// A piece of the guest's data: address and length.
type Piece = (u32, u32);

/// The data of a program, and where in it what lies.
pub(super) struct Material {
    pub(super) data: Vec<u8>,
    names: Vec<Piece>,
    rpc: Vec<Piece>,
    values: Vec<Piece>,
    maps: Vec<Piece>,
    paths: Vec<Piece>,
    clusters: Vec<Piece>,
    foreign: Vec<Piece>,
}

impl Material {
    pub(super) fn new(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let mut data = Vec::new();
        let mut place = |piece: &[u8]| {
            let at = u32::try_from(DATA + data.len()).expect("little data");
            data.extend_from_slice(piece);
            (at, u32::try_from(piece.len()).expect("a short piece"))
        };
        let mut names: Vec<Piece> = NAMES.iter().map(|name| place(name)).collect();
        let mut values: Vec<Piece> = VALUES
            .iter()
            .chain(&EXPRESSIONS)
            .map(|value| place(value))
            .collect();
        let mut paths: Vec<Piece> = PATHS.iter().map(|path| place(path)).collect();
        let rpc = RPC.iter().map(|name| place(name)).collect();
        let foreign = FOREIGN.iter().map(|name| place(name)).collect();
        let clusters = [CLUSTER.as_bytes(), b"other"].into_iter().chain(SERVICES);
        let clusters = clusters.map(&mut place).collect();
        for pieces in [&mut names, &mut values, &mut paths] {
            for _ in 0..bytes.int_in_range(0..=2)? {
                let piece: Vec<u8> = bytes.arbitrary()?;
                pieces.push(place(&piece[..piece.len().min(4096)]));
            }
        }
        let mut maps = vec![place(&[]), place(&call_head())];
        for _ in 0..bytes.int_in_range(0..=6)? {
            maps.push(place(&map(bytes)?));
        }
        Ok(Self {
            data,
            names,
            rpc,
            values,
            maps,
            paths,
            clusters,
            foreign,
        })
    }

    /// The words of an argument, and whether each is the address of the value.
    pub(super) fn argument(
        &self,
        bytes: &mut Unstructured<'_>,
        role: char,
    ) -> arbitrary::Result<Vec<(u32, bool)>> {
        let pieces = match role {
            's' | 'v' => &self.values,
            'k' => &self.names,
            'N' => &self.rpc,
            // Mostly none, so that streams come to be.
            'M' if bytes.ratio(2_u8, 3_u8)? => return Ok(vec![(0, false), (0, false)]),
            'm' | 'M' => &self.maps,
            'P' => &self.paths,
            'C' => &self.clusters,
            'F' => &self.foreign,
            'o' => return Ok(vec![(*bytes.choose(&SLOTS)?, false)]),
            'g' | 'G' => return Ok(vec![(*bytes.choose(&GRPC)?, role == 'G')]),
            'q' | 'Q' => return Ok(vec![(*bytes.choose(&QUEUES)?, role == 'Q')]),
            'e' | 'E' => return Ok(vec![(*bytes.choose(&METRICS)?, role == 'E')]),
            'n' => return Ok(vec![(bytes.int_in_range(0..=9)?, false)]),
            'h' => return Ok(vec![(bytes.int_in_range(90..=1010)?, false)]),
            _ => return Ok(vec![(bytes.int_in_range(0..=5000)?, false)]),
        };
        let (at, length) = *bytes.choose(pieces)?;
        Ok(vec![(at, false), (length, false)])
    }
}

/// The head of a call that can be made.
fn call_head() -> Vec<u8> {
    encode(&[
        (b":method", b"GET"),
        (b":path", b"/"),
        (b":authority", b"idp.test"),
    ])
}

/// A map of known and random pairs; one in three is damaged.
fn map(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    for _ in 0..bytes.int_in_range(0..=8)? {
        let name = if bytes.ratio(1_u8, 6_u8)? {
            bytes.arbitrary()?
        } else {
            *bytes.choose(&NAMES)?
        };
        let value = if bytes.ratio(1_u8, 6_u8)? {
            bytes.arbitrary()?
        } else {
            *bytes.choose(&VALUES)?
        };
        pairs.push((
            &name[..name.len().min(2048)],
            &value[..value.len().min(2048)],
        ));
    }
    let mut map = encode(&pairs);
    if bytes.ratio(1_u8, 3_u8)? {
        match bytes.int_in_range(0..=3)? {
            0 => map.truncate(bytes.choose_index(map.len())?),
            1 => map.extend_from_slice(bytes.arbitrary::<[u8; 3]>()?.as_slice()),
            2 => {
                map = bytes
                    .arbitrary::<&[u8]>()?
                    .iter()
                    .copied()
                    .take(4096)
                    .collect()
            }
            _ => {
                let at = bytes.choose_index(map.len())?;
                map[at] = bytes.arbitrary()?;
            }
        }
    }
    Ok(map)
}

fn encode(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).expect("a short piece").to_le_bytes();
    let mut map = number(pairs.len()).to_vec();
    for (name, value) in pairs {
        map.extend(number(name.len()));
        map.extend(number(value.len()));
    }
    for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
        map.extend_from_slice(part);
        map.push(0);
    }
    map
}
