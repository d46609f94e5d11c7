//! The server.

use super::{Usage, block, integer, one_of, pattern, string, word};

const COMMAND_NAMES: Usage = Usage::new(&[string("command-name").optional().repeated()]);

pub(crate) const INFO: Usage =
    Usage::new(&[string("section").optional().repeated()]).changed(&[("7.0.0", "Takes several sections.")]);
pub(crate) const CONFIG_GET: Usage = Usage::new(&[block("parameter", &[string("parameter")]).repeated()])
    .changed(&[("7.0.0", "Takes several patterns.")]);
pub(crate) const CONFIG_SET: Usage =
    Usage::new(&[block("parameter_value", &[string("parameter"), string("value")]).repeated()])
        .changed(&[("7.0.0", "Takes several parameters.")]);
pub(crate) const COMMAND_LIST: Usage = Usage::new(&[one_of(
    "filterby",
    &[
        string("module-name").after("MODULE"),
        string("category").after("ACLCAT"),
        pattern("pattern").after("PATTERN"),
    ],
)
.after("FILTERBY")
.optional()]);
pub(crate) const COMMAND_INFO: Usage =
    COMMAND_NAMES.changed(&[("7.0.0", "Describes all commands when none is named.")]);
pub(crate) const COMMAND_DOCS: Usage = COMMAND_NAMES;
pub(crate) const BGSAVE: Usage =
    Usage::new(&[word("SCHEDULE").optional().since("3.2.2")]).changed(&[("3.2.2", "Takes `SCHEDULE`.")]);
pub(crate) const SHUTDOWN: Usage = Usage::new(&[
    one_of("nosave_save", &[word("NOSAVE"), word("SAVE")]).optional(),
    word("NOW").optional().since("7.0.0"),
    word("FORCE").optional().since("7.0.0"),
    word("ABORT").optional().since("7.0.0"),
])
.changed(&[("7.0.0", "Takes `NOW`, `FORCE` and `ABORT`.")]);
pub(crate) const WAIT: Usage = Usage::new(&[integer("numreplicas"), integer("timeout")]);
pub(crate) const WAITAOF: Usage =
    Usage::new(&[integer("numlocal"), integer("numreplicas"), integer("timeout")]);
pub(crate) const LOLWUT: Usage = Usage::new(&[integer("version").after("VERSION").optional()]);
