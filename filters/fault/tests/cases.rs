//! The black-box cases on the SDK's mock host.

use tidegate_filter_fault::Plugin;
use tidegate_sdk::mock::{Message, Mock};

#[test]
fn cases() {
    tidegate_filter_cases::run::<Plugin>(include_str!("../cases.yaml"));
}

#[test]
fn delays_need_timers() {
    let mock = Mock::new();
    let config = r#"{"delay": {"time": "10ms"}}"#;
    let filter = mock.load::<Plugin>(config).expect("timers are granted");
    mock.refuse_timers(true);
    let refused = mock.load::<Plugin>(config).expect_err("they are not");
    assert!(
        refused.contains("delay: needs the capability timers"),
        "{refused}"
    );
    assert!(mock.load::<Plugin>("{}").is_ok());
    let outcome = filter.run(Message::request("GET", "/"), Message::response(200));
    assert_eq!(outcome.response.status(), 200);
}
