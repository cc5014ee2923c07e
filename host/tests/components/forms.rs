//! The two forms of a guest: a module, a few lines of WAT, and the component `directed`, which does the same where the same fields
//! ask for it. What holds for filters holds for both, so the tests that say so run on both.

use tidegate_testing::guest;
use tidegate_wasm_guests::DIRECTED;

/// What `directed` says in `x-stamp`, and where: sixteen bytes of it are the stamp.
const MARK: &[u8] = b"stamp:";
const STAMP: usize = 16;

/// A form of a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// A proxy-wasm module.
    Module,
    /// A component for the world of `wit/`.
    Component,
}

impl Form {
    /// The guest in this form. `wat` is the module's functions.
    pub(crate) fn guest(self, wat: &str) -> Vec<u8> {
        match self {
            Self::Module => guest(wat),
            Self::Component => DIRECTED.to_vec(),
        }
    }

    /// A guest that differs in its digest, and in the `x-stamp` of responses: `STAMP` in the functions of the module.
    pub(crate) fn stamped(self, wat: &str, stamp: &str) -> Vec<u8> {
        match self {
            Self::Module => guest(&wat.replace("STAMP", stamp)),
            Self::Component => component(stamp),
        }
    }
}

/// `directed` with this stamp.
fn component(stamp: &str) -> Vec<u8> {
    let mut wasm = DIRECTED.to_vec();
    let places: Vec<usize> = (0..wasm.len())
        .filter(|at| wasm[*at..].starts_with(b"stamp:original"))
        .collect();
    let [at] = places[..] else {
        panic!("the stamp is at {places:?}");
    };
    let room = &mut wasm[at + MARK.len()..at + STAMP];
    room.fill(b' ');
    room[..stamp.len()].copy_from_slice(stamp.as_bytes());
    wasm
}

/// Makes a test on each form of these functions, which take one: `name::module` and `name::component`.
macro_rules! on_both_forms {
    ($($test:ident,)*) => {$(
        mod $test {
            use crate::components::Form;

            #[tokio::test]
            async fn module() {
                super::$test(Form::Module).await;
            }

            #[tokio::test]
            async fn component() {
                super::$test(Form::Component).await;
            }
        }
    )*};
}
pub(crate) use on_both_forms;
