//! Paths that need no session, and requests that can be sent to a log-in page.

/// A path, or with `/*` behind it everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Exactly this one.
    Exact(String),
    /// It and everything below, with a slash at its end.
    Below(String),
}

impl Pattern {
    /// Reads one; `None` for what is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fine = text.starts_with('/') && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        let stem = text.strip_suffix('*');
        match (fine, stem) {
            (false, _) => None,
            (true, Some(stem)) if stem.ends_with('/') && !stem.contains('*') => {
                Some(Self::Below(stem.to_owned()))
            }
            (true, None) if !text.contains('*') => Some(Self::Exact(text.to_owned())),
            _ => None,
        }
    }

    /// Whether a path fits. One that an upstream may read as another path never does: what looks exempt here must be it there.
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        is_plain(path)
            && match self {
                Self::Exact(exact) => path == exact.as_bytes(),
                Self::Below(stem) => path.starts_with(stem.as_bytes()),
            }
    }
}

/// Whether a path has one reading: no dot segments, empty segments, backslashes, parameters, and none of these encoded.
fn is_plain(path: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let has = |part: &[u8]| lower.windows(part.len()).any(|window| window == part);
    let segments = || lower.split(|byte| *byte == b'/');
    !segments().any(|segment| matches!(segment, b"." | b".."))
        && ![
            &b"//"[..],
            b"\\",
            b";",
            b"%2e",
            b"%2f",
            b"%5c",
            b"%25",
            b"%3b",
            b"%00",
        ]
        .into_iter()
        .any(has)
}

/// What tells a browser's navigation from a script's call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// `sec-fetch-mode`.
    pub fetch_mode: Option<Vec<u8>>,
    /// `x-requested-with`.
    pub requested_with: Option<Vec<u8>>,
    /// `accept`.
    pub accept: Option<Vec<u8>>,
}

impl Asks {
    /// Whether a redirect to a log-in page is of any use: the user sees it, and the request can be sent again afterwards. Scripts
    /// would follow it into an error of cross-origin requests and never see that a log-in is needed.
    #[must_use]
    pub fn for_a_page(&self, method: &[u8]) -> bool {
        if method != b"GET" && method != b"HEAD" {
            return false;
        }
        if let Some(mode) = &self.fetch_mode {
            return mode == b"navigate";
        }
        if self.requested_with.is_some() {
            return false;
        }
        let Some(accept) = &self.accept else {
            return true;
        };
        let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
        let page = ["text/html", "application/xhtml+xml"];
        accept.trim() == "*/*" || page.iter().any(|page| accept.contains(page))
    }
}
