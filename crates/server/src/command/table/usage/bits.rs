//! Bits of strings.

use super::{Argument, Usage, block, integer, key, one_of, string, word};

const UNIT: Argument = one_of("index_unit", &[word("BYTE"), word("BIT")]).optional().since("7.0.0");
const COUNTS_BITS: &[(&str, &str)] = &[("7.0.0", "Takes the unit of the range: `BYTE` or `BIT`.")];
const GET: Argument = block("encoding_offset", &[string("encoding"), integer("offset")]).after("GET");
const SET: Argument =
    block("encoding_offset_value", &[string("encoding"), integer("offset"), integer("value")]).after("SET");
const INCRBY: Argument =
    block("encoding_offset_increment", &[string("encoding"), integer("offset"), integer("increment")])
        .after("INCRBY");

pub(crate) const SETBIT: Usage = Usage::new(&[key("key"), integer("offset"), integer("value")]);
pub(crate) const GETBIT: Usage = Usage::new(&[key("key"), integer("offset")]);
pub(crate) const BITCOUNT: Usage =
    Usage::new(&[key("key"), block("index", &[integer("start"), integer("end"), UNIT]).optional()])
        .changed(COUNTS_BITS);
pub(crate) const BITPOS: Usage = Usage::new(&[
    key("key"),
    integer("bit"),
    block("index", &[integer("start"), block("end_index", &[integer("end"), UNIT]).optional()]).optional(),
])
.changed(COUNTS_BITS);
pub(crate) const BITOP: Usage =
    Usage::new(&[string("operation"), key("destkey"), key("key").in_key_spec(1).repeated()]);
pub(crate) const BITFIELD: Usage = Usage::new(&[
    key("key"),
    one_of(
        "operation",
        &[
            GET,
            block(
                "write",
                &[
                    one_of("wrap_sat_fail", &[word("WRAP"), word("SAT"), word("FAIL")])
                        .after("OVERFLOW")
                        .optional(),
                    one_of("write_operation", &[SET, INCRBY]),
                ],
            ),
        ],
    )
    .optional()
    .repeated(),
]);
pub(crate) const BITFIELD_RO: Usage = Usage::new(&[key("key"), GET.optional().repeated_with_token()]);
