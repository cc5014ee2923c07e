//! What the host says of a filter's failures, against what its clients saw.

use anyhow::Context;
use serde_json::Value;

use crate::load::Outcome;

/// Counters of one filter, from `/filters`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) traps: u64,
    pub(crate) deadlines: u64,
    pub(crate) collateral: u64,
}

impl Ledger {
    /// Reads the row of a tenant's filter.
    ///
    /// # Errors
    /// When there is none, or a counter is missing.
    pub(crate) fn of(filters: &Value, tenant: &str) -> anyhow::Result<Self> {
        let row = filters
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["namespace"] == tenant))
            .with_context(|| format!("/filters has no row for {tenant}"))?;
        let counter = |name: &str| {
            row[name]
                .as_u64()
                .with_context(|| format!("/filters: no {name}"))
        };
        Ok(Self {
            traps: counter("traps")?,
            deadlines: counter("deadlines")?,
            collateral: counter("collateral")?,
        })
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            traps: self.traps - before.traps,
            deadlines: self.deadlines - before.deadlines,
            collateral: self.collateral - before.collateral,
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.traps + self.deadlines + self.collateral
    }

    /// What is not as it must be: every failure has its cause, and alone in its VM a request fails by its own fault only.
    pub(crate) fn judge(&self, offender: &Outcome, alone: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if offender.failed != self.failures() {
            wrong.push(format!(
                "{} requests failed, but the host counted {self:?}",
                offender.failed
            ));
        }
        if offender.odd > 0 {
            wrong.push(format!(
                "{} odd answers: {:?}",
                offender.odd, offender.oddity
            ));
        }
        if alone && (self.collateral > 0 || offender.failed != offender.faults) {
            wrong.push(format!(
                "{} faults, {} failures, with an instance for each request: {self:?}",
                offender.faults, offender.failed
            ));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_without_a_cause_are_found() {
        let rows = json!([{"namespace": "a", "traps": 3, "deadlines": 1, "collateral": 2}]);
        let ledger = Ledger::of(&rows, "a").expect("a row");
        assert!(Ledger::of(&rows, "b").is_err());
        let outcome = |failed| Outcome {
            failed,
            faults: 4,
            ..Outcome::default()
        };
        assert!(ledger.judge(&outcome(6), false).is_empty());
        assert_eq!(ledger.judge(&outcome(7), false).len(), 1);
        assert_eq!(
            ledger.judge(&outcome(6), true).len(),
            1,
            "collateral there cannot be"
        );
    }
}
