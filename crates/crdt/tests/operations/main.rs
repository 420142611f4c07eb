//! Operations: what clients can send (`parsing`), and what carrying it out answers
//! and changes (`applying`).

mod applying;
mod parsing;

use coppice_crdt::{CrdtType, Json, Operation, OperationError};

fn parse(crdt_type: CrdtType, text: &str) -> Result<Operation, OperationError> {
    Operation::from_json(crdt_type, &Json::parse(text.as_bytes()).expect("tests send JSON"))
}
