//! The transport against itself and against peers that misbehave, over real
//! sockets on loopback.

mod cluster;
mod exchange;
mod node;
mod proxy;
mod redial;
mod refusal;
mod said;
mod tls;

use super::GroupName;

#[test]
fn group_names_follow_the_resource_name_rule() {
    for good in ["a", "page-views", "a1", &"x".repeat(40)] {
        assert!(GroupName::parse(good).is_some(), "{good} is a legal name");
    }
    for bad in ["", "1a", "-a", "a-", "A", "a/b", "a%2Fb", "ä", &"x".repeat(41)] {
        assert!(GroupName::parse(bad).is_none(), "{bad} must be refused");
    }
}
