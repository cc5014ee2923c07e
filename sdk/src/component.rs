//! The world `tidegate:filter/filter` (wit/): the functions of the host, the callbacks of the component.

mod exports;
pub(crate) mod imports;
mod state;

mod bindings {
    //! The interfaces of `wit/`, in both directions.
    #![allow(
        unsafe_code,
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::needless_pass_by_value,
        clippy::use_self,
        clippy::allow_attributes_without_reason,
        reason = "generated from wit/, where the documentation is"
    )]

    wit_bindgen::generate!({
        path: "../wit",
        world: "filter",
        generate_all,
    });

    export!(Component);

    /// What the exports are implemented on.
    pub(super) struct Component;
}
