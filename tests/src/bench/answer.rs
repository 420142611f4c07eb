//! Where an answer ends, and whether it says that the operation was done.

use super::workload::Protocol;

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was {0:?}")]
pub(super) struct BadAnswer(String);

/// How many bytes the answer at the beginning of `bytes` has.
///
/// `None` while some of it is missing.
///
/// # Errors
///
/// If it is an error, or nothing that the protocol knows.
pub(super) fn length(protocol: Protocol, bytes: &[u8]) -> Result<Option<usize>, BadAnswer> {
    match protocol {
        Protocol::Http => http_length(bytes),
        Protocol::Resp => resp_length(bytes),
    }
}

fn resp_length(bytes: &[u8]) -> Result<Option<usize>, BadAnswer> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    match bytes.first() {
        Some(b':' | b'+') => Ok(Some(end + 2)),
        _ => Err(bad(bytes)),
    }
}

fn http_length(bytes: &[u8]) -> Result<Option<usize>, BadAnswer> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(bad(bytes));
    }
    let length = head.split(|byte| *byte == b'\n').find_map(content_length);
    let total = end + 4 + length.ok_or_else(|| bad(bytes))?;
    Ok((total <= bytes.len()).then_some(total))
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

fn bad(bytes: &[u8]) -> BadAnswer {
    BadAnswer(String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let http = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ndate: x\r\n\r\nhello";
        for (protocol, answer) in [(Protocol::Http, &http[..]), (Protocol::Resp, b":42\r\n")] {
            for end in 0..answer.len() {
                assert_eq!(length(protocol, &answer[..end]), Ok(None));
            }
            assert_eq!(length(protocol, answer), Ok(Some(answer.len())));
        }
    }

    #[test]
    fn refusals_are_errors() {
        let http = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
        assert!(length(Protocol::Http, http).is_err());
        assert!(length(Protocol::Resp, b"-ERR no\r\n").is_err());
        assert!(length(Protocol::Http, b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
    }
}
