//! Where bodies are cut: a filter must do the same however they arrive.

use std::fmt;

use tidegate_filter_cases::{Body, Case};

/// Bodies up to this length are cut at every point.
const SMALL: usize = 64;
/// Points at which longer ones are cut.
const POINTS: usize = 16;

/// How the bodies of a run are cut, those of requests and of the upstream alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// In the pieces in which they are written.
    Written,
    /// In two, after so many bytes; a shorter body is whole.
    At(usize),
    /// Byte by byte.
    Bytes,
}

impl Cut {
    /// All that a case is run with.
    pub(crate) fn of(case: &Case) -> Vec<Self> {
        let longest = case
            .exchanges()
            .iter()
            .flat_map(|exchange| {
                let response = exchange.upstream.as_ref().and_then(|up| up.body.as_ref());
                [exchange.request.body.as_ref(), response]
            })
            .flatten()
            .map(length)
            .max()
            .unwrap_or(0);
        let points: Vec<usize> = if longest <= SMALL {
            (1..longest).collect()
        } else {
            (1..=POINTS).map(|at| at * longest / (POINTS + 1)).collect()
        };
        let mut cuts = vec![Self::Written];
        cuts.extend(points.into_iter().map(Self::At));
        if longest > 2 {
            cuts.push(Self::Bytes);
        }
        cuts
    }

    /// The pieces of a body.
    pub(crate) fn pieces(self, body: &Body) -> Vec<Vec<u8>> {
        if self == Self::Written {
            return body
                .pieces()
                .iter()
                .map(|piece| piece.as_bytes().to_vec())
                .collect();
        }
        let whole = body.pieces().concat().into_bytes();
        match self {
            Self::At(at) if at < whole.len() => {
                let (first, second) = whole.split_at(at);
                vec![first.to_vec(), second.to_vec()]
            }
            Self::Bytes => whole.iter().map(|byte| vec![*byte]).collect(),
            Self::Written | Self::At(_) => vec![whole],
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written => f.write_str("bodies as written"),
            Self::At(at) => write!(f, "bodies cut after {at} bytes"),
            Self::Bytes => f.write_str("bodies byte by byte"),
        }
    }
}

fn length(body: &Body) -> usize {
    body.pieces().iter().map(|piece| piece.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(body: &str) -> Vec<Cut> {
        let yaml = format!("cases: [{{name: a, request: {{body: {body}}}}}]");
        let file = tidegate_filter_cases::File::parse(&yaml).expect("cases");
        Cut::of(&file.cases[0])
    }

    #[test]
    fn small_bodies_are_cut_everywhere_and_long_ones_at_some_points() {
        assert_eq!(
            cuts("abcd"),
            [Cut::Written, Cut::At(1), Cut::At(2), Cut::At(3), Cut::Bytes]
        );
        assert_eq!(cuts("a"), [Cut::Written]);
        assert_eq!(cuts("[ab, c]").len(), 4);
        let long = cuts(&"x".repeat(1000));
        assert_eq!(long.len(), POINTS + 2);
        assert!(long.contains(&Cut::At(58)));
    }

    #[test]
    fn a_cut_loses_nothing() {
        let body = Body::Pieces(vec!["ab".into(), "c".into()]);
        assert_eq!(Cut::Written.pieces(&body), [b"ab".to_vec(), b"c".to_vec()]);
        assert_eq!(Cut::At(1).pieces(&body), [b"a".to_vec(), b"bc".to_vec()]);
        assert_eq!(Cut::At(7).pieces(&body), [b"abc".to_vec()]);
        assert_eq!(Cut::Bytes.pieces(&body).len(), 3);
    }
}
