//! The black-box cases on the SDK's mock host.

use maintenance::Plugin;

#[test]
fn cases() {
    tidegate_filter_cases::run::<Plugin>(include_str!("../cases.yaml"));
}
