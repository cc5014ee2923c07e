//! Compiled expressions, shared by all who ask for the same: compiling one takes far longer than looking for it, and every
//! translation of thousands of routes asks for those of the last one again.
//!
//! What nobody has any longer is forgotten. An expression means the same wherever it is used, so nobody can tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use regex::{Regex, RegexBuilder};

/// What an expression may take, compiled and while it runs, in bytes.
const MOST: usize = 1 << 20;
/// Below this nobody looks for those that are gone.
const FEW: usize = 64;

#[derive(Default)]
struct Known {
    by_text: HashMap<Box<str>, Weak<Regex>>,
    /// Once there are so many, those that are gone are taken out.
    limit: usize,
}

/// The expression, compiled.
///
/// # Errors
/// What is wrong with it, in the words of crate `regex`.
pub(crate) fn compiled(text: &str) -> Result<Arc<Regex>, Box<regex::Error>> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    known_or_compiled(known, text)
}

fn known_or_compiled(known: &Mutex<Known>, text: &str) -> Result<Arc<Regex>, Box<regex::Error>> {
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = lock().by_text.get(text).and_then(Weak::upgrade) {
        return Ok(regex);
    }
    // Not under the lock: it may take milliseconds.
    let regex = RegexBuilder::new(text)
        .size_limit(MOST)
        .dfa_size_limit(MOST)
        .build()?;
    let regex = Arc::new(regex);
    let mut known = lock();
    known.by_text.insert(text.into(), Arc::downgrade(&regex));
    if known.by_text.len() > known.limit.max(FEW) {
        known.by_text.retain(|_, regex| regex.strong_count() > 0);
        known.limit = known.by_text.len() * 2;
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stands_for_all_and_goes_with_the_last() {
        let known = Mutex::default();
        let first = known_or_compiled(&known, "^a+$").expect("an expression");
        let second = known_or_compiled(&known, "^a+$").expect("an expression");
        assert!(Arc::ptr_eq(&first, &second));
        for number in 0..10 * FEW {
            let passing = known_or_compiled(&known, &format!("^b{number}$"));
            assert!(
                passing
                    .expect("an expression")
                    .is_match(&format!("b{number}"))
            );
        }
        let left = known.lock().expect("nobody panicked").by_text.len();
        assert!(left <= FEW + 1, "{left} are remembered");
        let third = known_or_compiled(&known, "^a+$").expect("an expression");
        assert!(Arc::ptr_eq(&first, &third), "those in use stay");
        assert!(known_or_compiled(&known, "(").is_err());
    }
}
