//! Kubernetes quantities of bytes and CPUs, as they are written in a manifest.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Longest accepted text of a quantity.
const QUANTITY_LEN_MAX: u32 = 32;

/// A quantity as it was written: `1Gi`, `500m`, or a plain number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

/// Why a quantity is not a number of bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a whole number of bytes; write for example 512Mi, 2Gi or 1073741824")]
pub struct NotBytes(pub String);

impl Quantity {
    /// The quantity as a whole number of bytes. Fractions are allowed where the result is whole (`1.5Gi`).
    /// # Errors
    /// [`NotBytes`] when the text is not a quantity, is negative, not whole, or does not fit.
    pub fn bytes(&self) -> Result<u64, NotBytes> {
        parse_bytes(&self.0).ok_or_else(|| NotBytes(self.0.clone()))
    }

    /// Whether `self` and `other` are the same amount, however they are written: the API server writes a quantity in a
    /// form of its own. False when either is no quantity.
    #[must_use]
    pub(crate) fn is_same(&self, other: &Quantity) -> bool {
        parse_milli(&self.0).is_some_and(|milli| Some(milli) == parse_milli(&other.0))
    }
}

/// Suffixes and what they multiply by (`m`: divide by 1000), longest first so that `Ki` is not read as `K`.
const SUFFIXES: [(&str, u64); 14] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("m", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

fn parse_bytes(text: &str) -> Option<u64> {
    let milli = parse_milli(text)?;
    let bytes = milli.is_multiple_of(1000).then_some(milli / 1000)?;
    u64::try_from(bytes).ok()
}

/// The quantity in thousandths; absent when it is none, or has finer parts.
fn parse_milli(text: &str) -> Option<u128> {
    let (digits, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| {
        let digits = text.strip_suffix(suffix)?;
        Some((digits, u128::from(*factor) * if *suffix == "m" { 1 } else { 1000 }))
    })?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut milli = u128::from(whole).checked_mul(factor)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u128>().ok()?.checked_mul(factor)?;
        if !part.is_multiple_of(scale) {
            return None;
        }
        milli = milli.checked_add(part / scale)?;
    }
    Some(milli)
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(i64),
            String(String),
        }
        Ok(Quantity(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text,
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": QUANTITY_LEN_MAX,
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[mkMGTPE])?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(Quantity(text.into()).bytes().ok(), expected, "{text:?}");
    }

    #[test]
    fn quantities_are_read_as_bytes() {
        check("0", Some(0));
        check("1073741824", Some(1 << 30));
        check("1Gi", Some(1 << 30));
        check("1.5Gi", Some(3 << 29));
        check("2k", Some(2_000));
        check(".5Ki", Some(512));
        check("15Ei", Some(15 << 60));
    }

    #[test]
    fn what_is_not_a_whole_number_of_bytes_is_refused() {
        for text in
            ["", ".", "Gi", "-1", "1.5", "100m", "1 Gi", "16Ei", "1Gb", "1e3x", "99999999999999999999"]
        {
            check(text, None);
        }
    }

    #[test]
    fn one_amount_has_many_forms() {
        let same = |a: &str, b: &str| Quantity(a.into()).is_same(&Quantity(b.into()));
        assert!(same("0.5", "500m") && same("1024Mi", "1Gi") && same("2", "2000m"));
        assert!(!same("1G", "1Gi") && !same("x", "x"));
    }

    #[test]
    fn numbers_and_strings_are_both_accepted() {
        assert_eq!(serde_json::from_str::<Quantity>("5").unwrap(), Quantity("5".into()));
        assert_eq!(serde_json::from_str::<Quantity>("\"5Gi\"").unwrap(), Quantity("5Gi".into()));
    }
}
