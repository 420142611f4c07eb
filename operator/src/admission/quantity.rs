//! Compares Kubernetes quantities: `25m`, `1`, `64Mi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
    ("", 0),
];

/// The larger of two; the first if they are equal. One that cannot be read is smaller
/// than any.
pub(super) fn larger(one: Quantity, other: Quantity) -> Quantity {
    if nano(&other.0) > nano(&one.0) { other } else { one }
}

/// In billionths, rounded down; none if it is no quantity, or beyond what is sane.
fn nano(text: &str) -> Option<i128> {
    let binary = BINARY.iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    if let Some((number, bits)) = binary {
        return scaled(number, 9)?.checked_mul(1_i128.checked_shl(bits)?);
    }
    if let Some((number, exponent)) = text.split_once(['e', 'E'])
        && let Ok(exponent) = exponent.parse::<i32>()
    {
        return scaled(number, exponent.checked_add(9)?);
    }
    let (number, exponent) =
        DECIMAL.iter().find_map(|(unit, exponent)| Some((text.strip_suffix(unit)?, *exponent)))?;
    scaled(number, exponent + 9)
}

/// `number` times 10^`exponent`, rounded down.
fn scaled(number: &str, exponent: i32) -> Option<i128> {
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let factor = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 { Some(value / factor) } else { value.checked_mul(factor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_value_and_not_by_text() {
        let quantity = |text: &str| Quantity(text.to_owned());
        for (smaller, bigger) in [
            ("25m", "0.1"),
            ("999m", "1"),
            ("64Mi", "1Gi"),
            ("128974848", "129M"),
            ("1e3", "1Ki"),
            ("1E3", "1.1k"),
            ("1M", "1Mi"),
            ("nonsense", "1n"),
            ("", "1"),
            ("1e99", "1"),
        ] {
            let (a, b) = (quantity(smaller), quantity(bigger));
            assert_eq!(larger(a.clone(), b.clone()), b, "{smaller} < {bigger}");
            assert_eq!(larger(b.clone(), a), b, "{smaller} < {bigger}");
        }
        assert_eq!(larger(quantity("1"), quantity("1000m")).0, "1", "equal: the first");
    }
}
