//! Renewing a session once, whoever asks for it: the requests of one page come at once, on several workers, and many providers
//! take a refresh token one time only.
//!
//! Requests of one VM wait for one call. Between VMs there is shared data: a slot says that somebody is at it, then for a minute what
//! came of it, sealed, for requests that were sent with the old cookie. Slots are few and of bounded size; two sessions that meet in
//! one only lose what is shared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::flight::Flight;
use tidegate_sdk::shared::{self, ABSENT, SharedDataError};
use tidegate_sdk::{time, warn};

use crate::policy::session::Session;
use crate::policy::{Digest, Policy};
use crate::provider::{Failure, Provider};
use crate::random;

/// Refreshes under way in this VM.
#[derive(Debug, Default)]
pub(crate) struct Refreshes(RefCell<BTreeMap<Digest, Rc<Flight<Outcome>>>>);

/// What came of one.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The session, and the same sealed.
    Renewed(Rc<Session>, Rc<str>),
    /// It cannot be renewed: a log-in is needed.
    Over,
    /// Not now.
    Unavailable,
}

/// What a slot says about a refresh token.
enum Slot {
    /// Nothing; holds what a store of it has to say.
    Free(u32),
    /// Another VM is at it.
    Busy,
    /// What came of it.
    Done(String),
}

const SLOTS: u8 = 128;

/// How long what came of a refresh is there for requests with the old cookie.
const KEPT: Duration = Duration::from_secs(60);

/// The time between two looks at another VM's work.
const LOOK: Duration = Duration::from_millis(50);

const BUSY: u8 = 0;
const DONE: u8 = 1;

impl Refreshes {
    pub(crate) async fn run(
        &self,
        policy: &Policy,
        provider: &Provider,
        session: &Session,
    ) -> Outcome {
        let Some(digest) = policy.refresh_digest(session) else {
            return Outcome::Over;
        };
        let flight = Rc::clone(self.0.borrow_mut().entry(digest).or_default());
        let seat = Seat {
            refreshes: self,
            digest,
            flight,
        };
        let once = async || refresh(policy, provider, session, &digest).await;
        seat.flight.run(once).await
    }
}

/// Somebody who waits for a refresh.
struct Seat<'a> {
    refreshes: &'a Refreshes,
    digest: Digest,
    flight: Rc<Flight<Outcome>>,
}

impl Drop for Seat<'_> {
    /// The last one clears up, also where all have left before it was done. Who comes later finds it in the slot, or begins anew.
    fn drop(&mut self) {
        if Rc::strong_count(&self.flight) == 2 {
            self.refreshes.0.borrow_mut().remove(&self.digest);
        }
    }
}

async fn refresh(
    policy: &Policy,
    provider: &Provider,
    session: &Session,
    digest: &Digest,
) -> Outcome {
    let patience = policy.timeout() + Duration::from_secs(1);
    let deadline = time::now() + patience;
    loop {
        let now = time::now();
        match look(digest, now) {
            Ok(Slot::Done(sealed)) => {
                if let Some(session) = policy.open_session(&sealed) {
                    return Outcome::Renewed(Rc::new(session), sealed.into());
                }
                break;
            }
            Ok(Slot::Busy) if now < deadline => {
                // Without timers there is no waiting for the other VM: the browser asks again.
                if let Err(error) = time::sleep(LOOK).await {
                    warn!("no waiting for another worker's refresh: {error}");
                    return Outcome::Unavailable;
                }
            }
            Ok(Slot::Busy) => return Outcome::Unavailable,
            Ok(Slot::Free(cas)) => match store(digest, BUSY, now + patience, "", cas) {
                Err(SharedDataError::CasMismatch) => {}
                // Without shared data each VM is on its own.
                Ok(()) | Err(SharedDataError::Refused(_)) => break,
            },
            Err(_) => break,
        }
    }
    let outcome = call(policy, provider, session).await;
    let (state, until, sealed) = match &outcome {
        Outcome::Renewed(_, sealed) => (DONE, time::now() + KEPT, &**sealed),
        // Over at once: the next may try.
        Outcome::Over | Outcome::Unavailable => (BUSY, Duration::ZERO, ""),
    };
    let key = key(digest);
    // What cannot be shared costs others a call of their own, no more.
    let _ = shared::update(&key, |_| value(digest, state, until, sealed));
    outcome
}

async fn call(policy: &Policy, provider: &Provider, session: &Session) -> Outcome {
    match provider.renew(policy, session).await {
        Ok(session) => match random() {
            Ok(nonce) => {
                let sealed = policy.seal_session(&session, nonce);
                Outcome::Renewed(Rc::new(session), sealed.into())
            }
            Err(()) => Outcome::Unavailable,
        },
        Err(Failure::Unavailable) => Outcome::Unavailable,
        Err(Failure::Refused(_) | Failure::Wrong(_) | Failure::Claims) => Outcome::Over,
    }
}

fn key(digest: &Digest) -> String {
    format!("oidc-refresh/{}", digest[0] % SLOTS)
}

fn look(digest: &Digest, now: Duration) -> Result<Slot, SharedDataError> {
    let Some((bytes, cas)) = shared::get(&key(digest))? else {
        return Ok(Slot::Free(ABSENT));
    };
    Ok(read(&bytes, digest, now).unwrap_or(Slot::Free(cas)))
}

/// What a slot says, if it is about this token and not over.
fn read(bytes: &[u8], digest: &Digest, now: Duration) -> Option<Slot> {
    let (whose, rest) = bytes.split_at_checked(digest.len())?;
    let (state, rest) = rest.split_first()?;
    let (until, sealed) = rest.split_first_chunk()?;
    let until = Duration::from_secs(u64::from_le_bytes(*until));
    if whose != digest || now >= until {
        return None;
    }
    match *state {
        BUSY => Some(Slot::Busy),
        _ => Some(Slot::Done(String::from_utf8(sealed.to_vec()).ok()?)),
    }
}

fn store(
    digest: &Digest,
    state: u8,
    until: Duration,
    sealed: &str,
    cas: u32,
) -> Result<(), SharedDataError> {
    shared::set(&key(digest), &value(digest, state, until, sealed), cas)
}

fn value(digest: &Digest, state: u8, until: Duration, sealed: &str) -> Vec<u8> {
    let until = until.as_secs().to_le_bytes();
    [&digest[..], &[state], &until, sealed.as_bytes()].concat()
}
