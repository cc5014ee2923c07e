//! Memory that the calls of one VM hold in this process, beside what the VM itself has.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes of bodies and messages that all calls of one VM may hold together: a thousand calls of a few megabytes each would else
/// be paid for by its neighbours.
const BYTES: usize = 64 << 20;

/// What is left for one VM.
pub(crate) struct Budget(Cell<usize>);

/// A part of a budget; given back when it is dropped.
pub(crate) struct Held {
    budget: Rc<Budget>,
    bytes: usize,
}

/// The budget is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsedUp;

impl Budget {
    pub(crate) fn hold(self: &Rc<Self>) -> Held {
        Held {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(BYTES))
    }
}

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many more.
    pub(crate) fn grow(&mut self, by: usize) -> Result<(), UsedUp> {
        let left = self.budget.0.get().checked_sub(by).ok_or(UsedUp)?;
        self.budget.0.set(left);
        self.bytes += by;
        Ok(())
    }

    /// Gives so many back.
    pub(crate) fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        self.bytes -= by;
        self.budget.0.set(self.budget.0.get() + by);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back() {
        let budget = Rc::new(Budget::default());
        let (mut one, mut two) = (budget.hold(), budget.hold());
        assert_eq!(one.grow(BYTES - 10), Ok(()));
        assert_eq!(two.grow(11), Err(UsedUp));
        assert_eq!(two.grow(10), Ok(()));
        two.shrink(100);
        assert_eq!((two.bytes(), two.grow(10)), (0, Ok(())));
        drop(one);
        assert_eq!(two.grow(BYTES - 10), Ok(()));
    }
}
