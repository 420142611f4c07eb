//! The rules of the custom resource, evaluated without a cluster.

mod cases;

use std::collections::BTreeSet;

use cases::{Answer, Case, cases, smallest};
use coppice_api::v1alpha1::definition;
use coppice_api::{ByteSize, TextDuration};
use kube_cel::Validator;
use serde_json::{Value, json};

fn schema() -> Value {
    definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn object(patch: &Value) -> Value {
    let mut object = smallest();
    json_patch::merge(&mut object, patch);
    object
}

/// What the rules say to a case, as field and message.
fn refusals(schema: &Value, case: &Case) -> Vec<(String, String)> {
    let before = case.before.as_ref().map(object);
    let said = Validator::new().validate(schema, &object(&case.asked), before.as_ref());
    let refused = said.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec);
    refused.map(|error| (error.field_path, error.message)).collect()
}

#[test]
fn rules_let_through_what_is_right_and_say_what_to_do_with_the_rest() {
    let schema = schema();
    for case in cases() {
        let said = refusals(&schema, &case);
        match case.answer {
            Answer::Accepted => assert_eq!(said, [], "{case:?}"),
            Answer::Rule(at, message) => {
                assert_eq!(said.len(), 1, "{case:?}: {said:?}");
                assert_eq!(said[0].0, at, "{case:?}: {said:?}");
                assert!(said[0].1.contains(message), "{case:?}: {said:?}");
            }
            // Looked at by the API server before any rule.
            Answer::Shape(..) => {}
        }
    }
}

#[test]
fn every_rule_has_a_case_that_it_refuses() {
    let schema = schema();
    let mut rules = BTreeSet::new();
    collect(&schema, "", &mut rules);
    assert!(rules.len() > 10, "the rules were not found in the schema: {rules:?}");
    for case in cases() {
        for said in refusals(&schema, &case) {
            rules.remove(&said);
        }
    }
    assert_eq!(rules, BTreeSet::new(), "no case shows that these refuse anything");
}

/// Field and message of every rule.
fn collect(schema: &Value, at: &str, rules: &mut BTreeSet<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().expect("a rule has a message");
        rules.insert((at.to_owned(), message.to_owned()));
    }
    for (name, inside) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if at.is_empty() { "" } else { "." };
        collect(inside, &format!("{at}{dot}{name}"), rules);
    }
}

#[test]
fn what_the_rules_let_through_is_what_agents_can_read() {
    let schema = schema();
    let accepted = |spec: Value| {
        let asked = json!({ "spec": spec });
        refusals(&schema, &Case { before: None, asked, answer: Answer::Accepted }).is_empty()
    };
    let (least, most) = (TextDuration::from_millis(100), TextDuration::from_secs(3_600));
    for text in ["", "5", "5s", "5 s", "5s ", "+5s", "-5s", "1.5s", "5sec", "5s5s", "5s1h"]
        .into_iter()
        .chain(["1h", "0h5s", "100ms", "60m", "3600s", "61m", "1us", "007s", "٥s"])
    {
        let read = text.parse::<TextDuration>().is_ok_and(|it| it >= least && it <= most);
        assert_eq!(accepted(json!({ "sync": { "interval": text } })), read, "{text:?}");
    }
    let (least, most) = (ByteSize::bytes(1), ByteSize::mebibytes(8));
    for text in ["", "0", "1", "1Ki", "64", "8Mi", "8388609", "9Mi", "1Gi", "1K", "1M", "1e3"]
        .into_iter()
        .chain(["1.5Mi", "+1", "-1", " 1", "1 Mi", "1mi", "1Pi", "0x10", "0008Mi"])
    {
        let read = text.parse::<ByteSize>().is_ok_and(|it| it >= least && it <= most);
        assert_eq!(accepted(json!({ "limits": { "valueBytes": text } })), read, "{text:?}");
    }
}
